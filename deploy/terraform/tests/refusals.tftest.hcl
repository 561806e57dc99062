# Settings that would be mistakes are refused before anything is planned.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment              = "staging"
  region                   = "eu-west-1"
  network_cidr             = "10.20.0.0/16"
  availability_zones       = ["eu-west-1a", "eu-west-1b"]
  client_cidrs             = ["10.0.0.0/16"]
  certificate_arn          = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  image                    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  offline_image            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring-offline@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
  repository               = "lender/credit-scoring"
  github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  budget                   = { monthly_usd = 600, emails = ["credit-scoring@example.com"] }
  retention_days           = { decisions = 90, logs = 30 }
  database                 = { instance_class = "db.t4g.small", storage_gb = 20, multi_az = false, backup_days = 7, protect_deletion = false }
}

run "an_image_by_tag" {
  command = plan
  variables { image = "registry.example.com/credit-scoring:latest" }
  expect_failures = [var.image]
}

run "callers_from_everywhere" {
  command = plan
  variables { client_cidrs = ["0.0.0.0/0"] }
  expect_failures = [var.client_cidrs]
}

run "a_single_task" {
  command = plan
  variables { tasks = { min = 1, max = 10, cpu_percent = 70 } }
  expect_failures = [var.tasks]
}

run "a_single_zone" {
  command = plan
  variables { availability_zones = ["eu-west-1a"] }
  expect_failures = [var.availability_zones]
}

run "a_feature_store_that_may_be_anywhere" {
  command = plan
  variables { feature_store = { cidr = "0.0.0.0/0" } }
  expect_failures = [var.feature_store]
}

run "an_unknown_environment" {
  command = plan
  variables { environment = "test" }
  expect_failures = [var.environment]
}

run "a_repository_with_a_wildcard" {
  command = plan
  variables { repository = "lender/*" }
  expect_failures = [var.repository]
}

run "no_budget" {
  command = plan
  variables { budget = { monthly_usd = 0, emails = ["credit-scoring@example.com"] } }
  expect_failures = [var.budget]
}
