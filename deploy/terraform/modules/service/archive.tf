# Every hour finished segments of the decision log become Parquet and are copied to S3.

resource "aws_ecs_task_definition" "archive" {
  family                   = "${var.name}-archive"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 2048
  execution_role_arn       = aws_iam_role.this["execution"].arn
  task_role_arn            = aws_iam_role.this["archive"].arn
  container_definitions    = jsonencode([local.close_container, local.copy_container])

  volume {
    name = "scratch"
  }

  volume {
    name = "decisions"

    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.this.id
      transit_encryption = "ENABLED"

      authorization_config {
        access_point_id = aws_efs_access_point.this["decisions"].id
        iam             = "ENABLED"
      }
    }
  }
}

locals {
  job = {
    image                  = var.offline_image
    entryPoint             = ["python"]
    user                   = tostring(local.user)
    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    logConfiguration       = local.logging.offline
    mountPoints = [
      { sourceVolume = "scratch", containerPath = "/tmp", readOnly = false },
      { sourceVolume = "decisions", containerPath = local.log, readOnly = false },
    ]
  }

  close_container = merge(local.job, {
    name      = "close"
    essential = false
    command   = ["-m", "monitoring", "close", "--log", local.log]
  })

  # Names of closed segments are unique and their contents final: copying again changes nothing.
  copy_container = merge(local.job, {
    name      = "copy"
    essential = true
    dependsOn = [{ containerName = "close", condition = "SUCCESS" }]
    command = [
      "-c", "import sys; from pyarrow.fs import copy_files; copy_files(*sys.argv[1:])",
      "file://${local.log}/closed", "s3://${var.decisions_bucket.name}/closed?region=${var.region}",
    ]
  })
}

resource "aws_scheduler_schedule" "archive" {
  name                = "${var.name}-archive"
  schedule_expression = "rate(1 hour)"
  kms_key_arn         = var.kms_key_arn

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 10
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.this["scheduler"].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.archive.arn_without_revision
      launch_type         = "FARGATE"

      network_configuration {
        subnets          = var.private_subnet_ids
        security_groups  = [aws_security_group.this["service"].id]
        assign_public_ip = false
      }
    }

    retry_policy {
      maximum_retry_attempts = 2
    }
  }
}
