# The documentation site. Included by the Makefile.

##@ Document

.PHONY: docs docs-serve pictures

DOCS_TOOLS := .venv-docs
MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS_TOOLS)/bin/mkdocs

$(DOCS_TOOLS)/.installed: requirements/docs.txt
	$(PYTHON) -m venv --clear $(DOCS_TOOLS)
	$(DOCS_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

docs: setup $(DOCS_TOOLS)/.installed ## the documentation site, into build/site; build/site/index.html needs no network
	$(BIN)/python -m docs build/docs
	$(MKDOCS) build --strict --quiet

docs-serve: docs ## show the documentation site on 127.0.0.1:8000
	$(MKDOCS) serve --strict --dev-addr 127.0.0.1:8000

pictures: setup ## the pictures of docs/pictures in a real browser, of the champion; needs Chromium
	$(BIN)/python -m docs.pictures
