# What is the lender's own: copy, fill in, and give beside staging.tfvars or production.tfvars.
client_cidrs             = ["10.0.0.0/16"]
certificate_arn          = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
image                    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring-staging/credit-scoring@sha256:0000000000000000000000000000000000000000000000000000000000000000"
offline_image            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring-staging/credit-scoring-offline@sha256:0000000000000000000000000000000000000000000000000000000000000000"
repository               = "lender/credit-scoring"
github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
budget                   = { monthly_usd = 600, emails = ["credit-scoring@example.com"] }
