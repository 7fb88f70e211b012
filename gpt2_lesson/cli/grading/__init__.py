"""Grading a class: each notebook runs in a room of its own, where no answer is.

`submissions` reads the release and the students' files; `sandbox` builds the room;
`worker` runs in it beside the student's code; `protocol` is the language between the
room and us, and the only door; `marking` asks for one student's results and judges
them; `feedback` writes the pages and the table.
"""
