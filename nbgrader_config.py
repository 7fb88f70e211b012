"""nbgrader's settings for a class: run its commands from this folder."""

import os

from gpt2_lesson.classroom.nbgrader_preprocessors import RELEASING, SANITIZING

ROOT = os.path.dirname(os.path.abspath(__file__))
os.makedirs(os.path.join(ROOT, "grading"), exist_ok=True)
# What students did is no progress of the teacher's: a path that can't be written.
os.environ["GPT2_LESSON_PROGRESS"] = os.path.join(ROOT, "nbgrader_config.py", "none")

c = get_config()  # noqa: F821  (nbgrader provides it)
c.CourseDirectory.root = ROOT
c.CourseDirectory.course_id = "gpt2_lesson"
c.CourseDirectory.source_directory = "notebooks/solutions"
c.CourseDirectory.release_directory = "notebooks/exercises"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.db_url = "sqlite:///" + os.path.join(ROOT, "grading", "gradebook.db")
c.GenerateAssignment.preprocessors = RELEASING
c.Autograde.sanitize_preprocessors = SANITIZING
c.ExecutePreprocessor.timeout = 60  # seconds a cell
