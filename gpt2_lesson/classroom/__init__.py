"""Grading a class: each notebook runs in its own sandbox, without the answers.

`submissions` reads the release and the students' files. `sandbox` creates the sandbox,
`sandbox_init` sets it up from inside, with the filter of `system_calls`, and `selftest`
attacks it. `worker` runs in it, together with the student's code; `protocol` is the
only way to talk to it. `grader` asks it for one student's results and compares them;
`feedback` writes the pages and the table.
"""
