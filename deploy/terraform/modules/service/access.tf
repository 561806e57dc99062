# What each may do: `execution` starts containers, `service` scores, `archive` copies decisions, `scheduler` runs it.

locals {
  assumed_by = {
    execution = "ecs-tasks.amazonaws.com"
    service   = "ecs-tasks.amazonaws.com"
    archive   = "ecs-tasks.amazonaws.com"
    scheduler = "scheduler.amazonaws.com"
  }

  policies = {
    execution = data.aws_iam_policy_document.execution.json
    service   = data.aws_iam_policy_document.service.json
    archive   = data.aws_iam_policy_document.archive.json
    scheduler = data.aws_iam_policy_document.scheduler.json
  }
}

data "aws_caller_identity" "this" {}

data "aws_iam_policy_document" "assume" {
  for_each = local.assumed_by

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.this.account_id]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.assumed_by

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = each.value
}

data "aws_iam_policy_document" "execution" {
  # checkov:skip=CKV_AWS_356:GetAuthorizationToken knows no resource
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.repository_arns
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for group in aws_cloudwatch_log_group.this : "${group.arn}:*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for secret in aws_secretsmanager_secret.this : secret.arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

data "aws_iam_policy_document" "service" {
  statement {
    sid       = "Decisions"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    resources = [aws_efs_file_system.this.arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.this["decisions"].arn]
    }
  }

  statement {
    sid       = "Keys"
    actions   = ["elasticfilesystem:ClientMount"]
    resources = [aws_efs_file_system.this.arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.this["keys"].arn]
    }
  }
}

data "aws_iam_policy_document" "archive" {
  statement {
    sid       = "Decisions"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    resources = [aws_efs_file_system.this.arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.this["decisions"].arn]
    }
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.decisions_bucket.arn]
  }

  statement {
    sid       = "Write"
    actions   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
    resources = ["${var.decisions_bucket.arn}/closed/*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Run"
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.archive.arn_without_revision}:*"]
  }

  statement {
    sid       = "Roles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.this["execution"].arn, aws_iam_role.this["archive"].arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}
