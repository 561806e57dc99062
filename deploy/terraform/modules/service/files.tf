# The decision log outlives its task. The salted hashes of API keys and the address of the feature store are the same for
# all tasks, and are read from files. All are on EFS.

resource "aws_efs_file_system" "this" {
  encrypted        = true
  kms_key_id       = var.kms_key_arn
  performance_mode = "generalPurpose"
  throughput_mode  = "elastic"

  tags = { Name = var.name }
}

resource "aws_efs_backup_policy" "this" {
  file_system_id = aws_efs_file_system.this.id

  backup_policy {
    status = "ENABLED"
  }
}

resource "aws_efs_mount_target" "this" {
  count = length(var.private_subnet_ids)

  file_system_id  = aws_efs_file_system.this.id
  subnet_id       = var.private_subnet_ids[count.index]
  security_groups = [aws_security_group.this["files"].id]
}

resource "aws_efs_access_point" "this" {
  for_each = { decisions = "0750", keys = "0550" }

  file_system_id = aws_efs_file_system.this.id

  posix_user {
    uid = local.user
    gid = local.user
  }

  root_directory {
    path = "/${each.key}"

    creation_info {
      owner_uid   = local.user
      owner_gid   = local.user
      permissions = each.value
    }
  }
}

locals {
  # by name, the variable that the service finds each in
  secrets = { decision-log-key = "DECISION_LOG_KEY" }
}

# Values are put in by hand (docs/how-to/infrastructure.md): no state holds them.
resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV2_AWS_57:rotating the key of the decision log would part a client's decisions from the earlier ones
  for_each = local.secrets

  name                    = "${var.name}/${each.key}"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 30
}
