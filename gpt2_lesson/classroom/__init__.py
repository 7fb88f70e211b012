"""Grading a class: each notebook runs in a sandbox of its own, where no answer is.

`submissions` reads the release and the students' files; `sandbox` builds the sandbox,
which `sandbox_init` sets up from within, with the filter of `system_calls`, and
`selftest` tries; `worker` runs in it beside the student's code; `protocol` is the
language between the two, and the only way out; `grader` asks for one student's results
and judges them; `feedback` writes the pages and the table.
"""
