"""Builds the documentation site. Pages are Markdown files of this repository; ``site.yml`` lists them."""
