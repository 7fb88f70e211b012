"""Sphinx's settings for the reading site. What it adds to Sphinx: extension.py."""

from gpt2_lesson import __version__ as version

project = "GPT-2, lesson by lesson"
author = "the course's authors"
copyright = "MIT licence"
release = version
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "gpt2_lesson.authoring.site.extension",
]
root_doc = "README"

myst_enable_extensions = ["dollarmath", "html_image", "colon_fence"]
myst_heading_anchors = 3
myst_heading_slug_func = "gpt2_lesson.authoring.site.extension.slug"
nb_custom_formats = {".ipynb": ["gpt2_lesson.authoring.site.extension.read", {}, False]}
nb_execution_mode = "off"  # build.py runs the lessons
nb_code_prompt_show = "Show the output"
nb_code_prompt_hide = "Hide the output"
nb_mime_priority_overrides = [  # no scripts in an e-book
    ("epub", "image/png", 10),
    ("epub", "text/plain", 90),
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["glossary.js", "course.js"]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_sourcelink_suffix = ""  # a notebook is downloaded as one
html_use_index = epub_use_index = html_domain_indices = epub_domain_indices = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": project},
    "article_header_start": ["toggle-primary-sidebar.html", "navbar-logo.html"],
    "show_toc_level": 2,
    "navbar_persistent": [],
    "use_fullscreen_button": False,
    "footer_content_items": [],
}
math_number_all = False

epub_tocscope = "includehidden"
epub_show_urls = "no"
epub_css_files = ["book.css"]
epub_exclude_files = ["index.html", "search.html"]
