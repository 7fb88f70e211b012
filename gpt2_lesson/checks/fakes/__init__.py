"""Things that stand in for real ones in probes: toy models, layers, files.

They run beside the code of learners when it is graded, so none may hold an answer.
"""
