# The service on ECS: tasks behind a load balancer, held at a CPU utilisation, replaced one by one, and put back by ECS
# itself when a new version does not become ready.

locals {
  port   = 3000
  user   = 10034 # of the image
  log    = "/var/lib/credit-scoring"
  config = "/etc/credit-scoring/keys"
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338:retention is the variable log_days; decisions are kept in S3
  for_each = toset(["service", "offline"])

  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecs_task_definition" "service" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.this["execution"].arn
  task_role_arn            = aws_iam_role.this["service"].arn
  container_definitions    = jsonencode([local.service_container])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  volume {
    name = "scratch"
  }

  dynamic "volume" {
    for_each = { decisions = local.log, keys = local.config }

    content {
      name = volume.key

      efs_volume_configuration {
        file_system_id     = aws_efs_file_system.this.id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = aws_efs_access_point.this[volume.key].id
          iam             = "ENABLED"
        }
      }
    }
  }
}

locals {
  service_container = {
    name                   = "service"
    image                  = var.image
    essential              = true
    user                   = tostring(local.user)
    readonlyRootFilesystem = true
    stopTimeout            = 30
    portMappings           = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    environment = concat([
      { name = "BENTOML_DO_NOT_TRACK", value = "True" },
      { name = "CREDIT_SCORING_KEYS", value = "${local.config}/keys.yaml" },
      { name = "DECISION_LOG_DIR", value = local.log },
    ], var.feature_store == null ? [] : [{ name = "FEATURE_STORE_FILE", value = "${local.config}/feature-store" }])
    secrets = [for secret, variable in local.secrets : { name = variable, valueFrom = aws_secretsmanager_secret.this[secret].arn }]
    mountPoints = [
      { sourceVolume = "scratch", containerPath = "/tmp", readOnly = false },
      { sourceVolume = "decisions", containerPath = local.log, readOnly = false },
      { sourceVolume = "keys", containerPath = local.config, readOnly = true },
    ]
    logConfiguration = local.logging.service
  }

  logging = {
    for kind, group in aws_cloudwatch_log_group.this : kind => {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = group.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = kind
      }
    }
  }
}

resource "aws_ecs_service" "this" {
  name                              = "credit-scoring"
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.service.arn
  launch_type                       = "FARGATE"
  platform_version                  = "LATEST"
  desired_count                     = var.tasks.min
  health_check_grace_period_seconds = 30
  enable_execute_command            = false
  propagate_tags                    = "SERVICE"

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    enable      = true
    rollback    = true
    alarm_names = [aws_cloudwatch_metric_alarm.errors.alarm_name]
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.this["service"].id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "service"
    container_port   = local.port
  }

  lifecycle {
    # deployments and autoscaling change them
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [aws_lb_listener_rule.allowed, aws_iam_role_policy.this, aws_efs_mount_target.this]
}
