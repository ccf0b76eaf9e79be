"""A static site: the course as pages, and a page that composes in the browser. See `musicgen.lab.site.build`."""
