# The targets that ship: images, Kubernetes, infrastructure, releases. Included by the Makefile.

##@ Images

.PHONY: image image-check audit wheel observability kubernetes rehearse

BENTO ?= credit_scoring:latest
BASE ?=
PINNED ?=

image: setup ## build the slim images of BENTO on BASE (PINNED=1: with its digest only); needs buildah and podman
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m deploy.image build --bento $(BENTO) $(if $(BASE),--base $(BASE)) $(if $(PINNED),--pinned)

image-check: setup ## run IMAGE hardened: size, contents, start, SIGTERM under load, the contract tests
	$(BIN)/python -m deploy.image check $(IMAGE)
	CREDIT_SCORING_IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/deploy/test_image.py

wheel: setup ## the scorer as a wheel for executors, into build/wheel; the same sources give the same bytes
	$(BIN)/python -m deploy.wheel

DEPLOY_TOOLS := .venv-deploy

$(DEPLOY_TOOLS)/.installed: requirements/deploy.txt
	$(PYTHON) -m venv --clear $(DEPLOY_TOOLS)
	$(DEPLOY_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

audit: setup $(DEPLOY_TOOLS)/.installed ## known vulnerabilities of what every lock in requirements/ installs; fails where their data cannot be reached
	$(BIN)/python -m deploy.image audit --tools $(DEPLOY_TOOLS)/bin

##@ Kubernetes

observability: setup ## write the files of Prometheus, Alertmanager and Grafana from deploy/observability/templates and the settings
	$(BIN)/python -m deploy.observability

kubernetes: setup $(DEPLOY_TOOLS)/.installed ## hold every overlay to Kubernetes' schemas and checkov's policies; needs kubectl
	$(BIN)/python -m deploy.kubernetes check --tools $(DEPLOY_TOOLS)/bin

rehearse: setup ## play FIRST and SECOND (images) on a real API server and kubelet of KUBERNETES (folder); needs root
	$(BIN)/python -m deploy.rehearsal --binaries $(KUBERNETES) --first $(FIRST) --second $(SECOND)

##@ Infrastructure

INFRASTRUCTURE := .venv-infrastructure
PLUGINS ?=
TERRAFORM_OPTIONS = $(if $(PLUGINS),--plugins $(PLUGINS))
COMPOSE := deploy/compose/compose.yaml
TARGET ?= ecs
export REGISTRY_AUTH_FILE ?= $(HOME)/.docker/config.json

$(INFRASTRUCTURE)/.installed: requirements/infrastructure.txt
	$(PYTHON) -m venv --clear $(INFRASTRUCTURE)
	$(INFRASTRUCTURE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.PHONY: infrastructure-tools terraform terraform-rehearse compose-check workflows capacity release-notes release-check
.PHONY: bento login push sign verify deploy rollout-check promote retrain

infrastructure-tools: $(INFRASTRUCTURE)/.installed ## the tools of the targets below, in an environment of their own

terraform: setup infrastructure-tools ## fmt, validate, test and policies of deploy/terraform; PLUGINS=DIR where the registry is out of reach
	$(BIN)/python -m deploy.infrastructure check $(TERRAFORM_OPTIONS)
	$(INFRASTRUCTURE)/bin/checkov --quiet --compact --skip-download --framework terraform --directory deploy/terraform

terraform-rehearse: setup infrastructure-tools ## apply, plan again and destroy on moto, into deploy/terraform/rehearsal.json
	$(BIN)/python -m deploy.infrastructure rehearse $(TERRAFORM_OPTIONS)

compose-check: setup infrastructure-tools ## hold deploy/compose to the specification, and to what it must be
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE)
	REHEARSE=1 $(BIN)/python -m pytest tests/deploy/test_compose.py

workflows: infrastructure-tools ## hold .github and CITATION.cff to their schemas, and look for weaknesses of the workflows
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.renovate .github/renovate.json
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.citation-file-format --force-filetype yaml CITATION.cff
	$(INFRASTRUCTURE)/bin/zizmor --offline --quiet --min-severity medium .github/workflows

capacity: setup ## pods and cost for a load, from benchmarks/results into docs/how-to/capacity.md
	$(BIN)/python -m deploy.capacity

##@ Release

release-notes: setup ## print the notes of VERSION
	@$(BIN)/python -m deploy.release notes $(VERSION)

release-check: setup ## whether TAG may be released
	$(BIN)/python -m deploy.release check $(TAG)

bento: visible setup ## the champion of the registry into the store, and a Bento of it and this code
	$(BIN)/python -m training import
	$(BIN)/bentoml build

login: infrastructure-tools ## log in to REGISTRY, an ECR
	$(INFRASTRUCTURE)/bin/aws ecr get-login-password | podman login --username AWS --password-stdin $(firstword $(subst /, ,$(REGISTRY)))

push: ## push IMAGE to REGISTRY; its reference by digest goes into build/pushed
	@mkdir -p build
	podman push --digestfile build/digest $(IMAGE) $(REGISTRY)/$(notdir $(IMAGE))
	printf '%s@%s\n' "$(REGISTRY)/$(firstword $(subst :, ,$(notdir $(IMAGE))))" "$$(cat build/digest)" > build/pushed

sign: ## sign IMAGE, given by digest, with the workflow's identity
	cosign sign --yes $(IMAGE)

verify: ## whether SIGNER signed IMAGE
	cosign verify --certificate-oidc-issuer https://token.actions.githubusercontent.com \
		--certificate-identity-regexp '^$(SIGNER)' $(IMAGE) > /dev/null

deploy: setup infrastructure-tools ## put IMAGE in charge of GROUP on TARGET (ecs or kubernetes), and back if it does not become ready
	PATH=$(CURDIR)/$(INFRASTRUCTURE)/bin:$$PATH $(BIN)/python -m deploy.release deploy $(TARGET) $(IMAGE) --group $(GROUP)

rollout-check: setup infrastructure-tools ## roll out, fail and go back on an ECS of moto
	REHEARSE=1 $(BIN)/python -m pytest tests/deploy/test_rollout.py

HOW ?=

retrain: setup ## train on DATA if the decisions in the log DECISIONS have drifted (HOW=--force: in any case)
	$(BIN)/python -m training retrain --data $(DATA) $(or $(HOW),--if-drifted --log $(DECISIONS))

promote: setup ## judge model VERSION on DATA, and make it champion if it passes the gates
	$(BIN)/python -m training promote --version $(VERSION) --data $(DATA)
