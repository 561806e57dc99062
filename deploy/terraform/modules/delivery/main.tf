# What the repository's workflows may do, by short-lived tokens: `build` pushes images and reads models in the GitHub
# environment `registry`; `deploy` replaces tasks in the environment of this name. GitHub's environments say who reviews.

locals {
  subjects = {
    build  = ["repo:${var.repository}:environment:registry"]
    deploy = ["repo:${var.repository}:environment:${var.environment}"]
  }
}

data "aws_iam_policy_document" "assume" {
  for_each = local.subjects

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = each.value
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.subjects

  name                 = "${var.name}-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.assume[each.key].json
  max_session_duration = 3600
}

data "aws_iam_policy_document" "build" {
  # checkov:skip=CKV_AWS_356:GetAuthorizationToken knows no resource
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
      "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = values(var.repository_arns)
  }

  statement {
    sid       = "Models"
    actions   = ["s3:GetObject", "s3:ListBucket"]
    resources = [var.models_bucket_arn, "${var.models_bucket_arn}/*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "build" {
  name   = "build"
  role   = aws_iam_role.this["build"].id
  policy = data.aws_iam_policy_document.build.json
}
