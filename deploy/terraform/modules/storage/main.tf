# Models (MLflow's artefacts) and decisions (closed segments of the decision log), encrypted with our key and versioned.

data "aws_caller_identity" "this" {}

locals {
  encrypted = toset(["models", "decisions"])
  names     = { for purpose in local.encrypted : purpose => "${var.name}-${purpose}-${data.aws_caller_identity.this.account_id}" }
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_144:a copy in a second region is the lender's decision; docs/how-to/delivery.md
  # checkov:skip=CKV2_AWS_62:nothing listens to new objects
  # checkov:skip=CKV_AWS_18:below, for each bucket; checkov follows no for_each over resources
  # checkov:skip=CKV_AWS_21:as above
  # checkov:skip=CKV_AWS_145:as above
  # checkov:skip=CKV2_AWS_6:as above
  for_each = local.encrypted

  bucket        = local.names[each.key]
  force_destroy = var.disposable
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

data "aws_iam_policy_document" "tls_only" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tls_only" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.tls_only[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = aws_s3_bucket.this

  bucket        = each.value.id
  target_bucket = aws_s3_bucket.access_logs.id
  target_prefix = "s3/${each.key}/"

  depends_on = [aws_s3_bucket_policy.access_logs]
}

resource "aws_s3_bucket_lifecycle_configuration" "models" {
  bucket = aws_s3_bucket.this["models"].id

  rule {
    id     = "superseded"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 365
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "decisions" {
  bucket = aws_s3_bucket.this["decisions"].id

  rule {
    id     = "retention"
    status = "Enabled"

    filter {}

    transition {
      days          = min(90, var.decisions_days - 1)
      storage_class = "GLACIER_IR"
    }

    expiration {
      days = var.decisions_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}
