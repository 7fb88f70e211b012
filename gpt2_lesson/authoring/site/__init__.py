"""The reading site: the course as web pages, made by Sphinx from the notebooks."""

from importlib.util import find_spec

if find_spec("sphinx_book_theme") is None or find_spec("myst_nb") is None:
    raise ImportError('the site needs more packages: pip install "gpt2_lesson[site]"')
