# What the plans of both environments promise. No account is asked: the provider is mocked.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment              = "production"
  region                   = "eu-west-1"
  network_cidr             = "10.30.0.0/16"
  availability_zones       = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
  client_cidrs             = ["10.0.0.0/16"]
  certificate_arn          = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  image                    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  offline_image            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/credit-scoring-offline@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
  repository               = "lender/credit-scoring"
  github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  budget                   = { monthly_usd = 600, emails = ["credit-scoring@example.com"] }
  retention_days           = { decisions = 1825, logs = 365 }
  database                 = { instance_class = "db.m7g.large", storage_gb = 50, multi_az = true, backup_days = 35, protect_deletion = true }
}

run "service_scales_from_two_to_ten_tasks_at_70_percent" {
  command = plan

  module {
    source = "./modules/service"
  }

  variables {
    name               = "credit-scoring-production"
    vpc_id             = "vpc-1"
    private_subnet_ids = ["subnet-1", "subnet-2"]
    s3_prefix_list_id  = "pl-1"
    repository_arns    = ["arn:aws:ecr:eu-west-1:123456789012:repository/credit-scoring"]
    cpu                = 1024
    memory             = 2048
    tasks              = { min = 2, max = 10, cpu_percent = 70 }
    feature_store      = null
    kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/1"
    decisions_bucket   = { name = "decisions", arn = "arn:aws:s3:::decisions" }
    access_log_bucket  = "access-logs"
    log_days           = 365
    protected          = true
    alarm_topic_arn    = "arn:aws:sns:eu-west-1:123456789012:alarms"
  }

  assert {
    condition     = [aws_appautoscaling_target.this.min_capacity, aws_appautoscaling_target.this.max_capacity] == [2, 10]
    error_message = "between two and ten tasks"
  }

  assert {
    condition     = aws_appautoscaling_policy.cpu.target_tracking_scaling_policy_configuration[0].target_value == 70
    error_message = "held at 70 % CPU"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.alarms[0].rollback
    error_message = "a failed deployment is put back"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_minimum_healthy_percent == 100
    error_message = "no task stops before its successor is ready"
  }

  assert {
    condition     = aws_lb.this.internal && aws_lb_listener.https.port == 443 && aws_lb_listener.https.protocol == "HTTPS"
    error_message = "callers come by TLS, and not from the internet"
  }

  assert {
    condition     = one(aws_lb_listener.https.default_action[*].type) == "fixed-response"
    error_message = "what is not allowed is not found"
  }

  assert {
    condition     = !anytrue([for rule in aws_lb_listener_rule.allowed.condition : anytrue([for values in rule.path_pattern : contains(values.values, "/metrics")])])
    error_message = "/metrics stays inside"
  }

  assert {
    condition     = local.service_container.readonlyRootFilesystem && local.service_container.user != "0" && local.service_container.linuxParameters.capabilities.drop == ["ALL"]
    error_message = "the container is hardened"
  }

  assert {
    condition     = aws_efs_file_system.this.encrypted
    error_message = "the decision log is encrypted"
  }

  assert {
    condition     = keys(aws_secretsmanager_secret.this) == ["decision-log-key"] && length(aws_vpc_security_group_egress_rule.feature_store) == 0 && !contains(local.service_container.environment[*].name, "FEATURE_STORE_FILE")
    error_message = "no feature store unless one is named"
  }
}

run "a_feature_store_is_reached_and_known_by_the_service" {
  command = plan

  module {
    source = "./modules/service"
  }

  variables {
    name               = "credit-scoring-production"
    vpc_id             = "vpc-1"
    private_subnet_ids = ["subnet-1", "subnet-2"]
    s3_prefix_list_id  = "pl-1"
    repository_arns    = ["arn:aws:ecr:eu-west-1:123456789012:repository/credit-scoring"]
    cpu                = 1024
    memory             = 2048
    tasks              = { min = 2, max = 10, cpu_percent = 70 }
    feature_store      = { cidr = "10.30.64.0/24", port = 6380 }
    kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/1"
    decisions_bucket   = { name = "decisions", arn = "arn:aws:s3:::decisions" }
    access_log_bucket  = "access-logs"
    log_days           = 365
    protected          = true
    alarm_topic_arn    = "arn:aws:sns:eu-west-1:123456789012:alarms"
  }

  assert {
    condition     = [for variable in local.service_container.environment : variable.value if startswith(variable.name, "FEATURE_STORE")] == ["/etc/credit-scoring/keys/feature-store"]
    error_message = "the address is read from a file, and no variable holds it"
  }

  assert {
    condition     = [for mount in local.service_container.mountPoints : mount.readOnly if mount.containerPath == "/etc/credit-scoring/keys"] == [true]
    error_message = "the file is on the volume of the API keys"
  }

  assert {
    condition     = keys(aws_secretsmanager_secret.this) == ["decision-log-key"]
    error_message = "no secret that the service would find in a variable"
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_egress_rule.feature_store : [rule.cidr_ipv4, tostring(rule.from_port), tostring(rule.to_port)]] == [["10.30.64.0/24", "6380", "6380"]]
    error_message = "its port alone is open, in its network alone"
  }
}

run "buckets_are_private_encrypted_and_versioned" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    name           = "credit-scoring-production"
    kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/1"
    decisions_days = 1825
    disposable     = false
  }

  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "no bucket may become public"
  }

  assert {
    condition     = alltrue([for encryption in aws_s3_bucket_server_side_encryption_configuration.this : one(encryption.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"])
    error_message = "models and decisions are encrypted with our key"
  }

  assert {
    condition     = keys(aws_s3_bucket_versioning.this) == ["decisions", "models"]
    error_message = "both are versioned"
  }

  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.decisions.rule[0].expiration[*].days) == 1825
    error_message = "decisions are kept as long as the retention says"
  }
}

run "database_is_private_encrypted_and_backed_up" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    name         = "credit-scoring-production"
    vpc_id       = "vpc-1"
    subnet_ids   = ["subnet-1", "subnet-2"]
    client_cidrs = ["10.30.0.0/20"]
    kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:key/1"
    size         = { instance_class = "db.m7g.large", storage_gb = 50, multi_az = true, backup_days = 35, protect_deletion = true }
  }

  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_db_instance.this.storage_encrypted && aws_db_instance.this.multi_az
    error_message = "private, encrypted, in two zones"
  }

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "no password in the state"
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 35
    error_message = "it cannot be lost by mistake"
  }

  assert {
    condition     = one([for parameter in aws_db_parameter_group.this.parameter : parameter.value if parameter.name == "rds.force_ssl"]) == "1"
    error_message = "connections are encrypted"
  }
}

run "images_cannot_be_replaced_under_their_tag" {
  command = plan

  module {
    source = "./modules/registry"
  }

  variables {
    name         = "credit-scoring-production"
    repositories = ["credit-scoring"]
    kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:key/1"
    disposable   = false
  }

  assert {
    condition     = aws_ecr_repository.this["credit-scoring"].image_tag_mutability == "IMMUTABLE"
    error_message = "a tag means one image for ever"
  }

  assert {
    condition     = one(aws_ecr_repository.this["credit-scoring"].image_scanning_configuration).scan_on_push
    error_message = "every image is scanned"
  }
}

run "budget_warns_before_it_is_spent" {
  command = plan

  module {
    source = "./modules/budget"
  }

  variables {
    name        = "credit-scoring-production"
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    monthly_usd = 600
    emails      = ["credit-scoring@example.com"]
  }

  assert {
    condition     = { for n in aws_budgets_budget.monthly.notification : n.notification_type => n.threshold } == { ACTUAL = 80, FORECASTED = 100 }
    error_message = "at 80 % spent, and when 100 % are to be expected"
  }
}

run "network_has_no_way_to_the_internet" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    name        = "credit-scoring-production"
    cidr        = "10.30.0.0/16"
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    log_days    = 365
  }

  assert {
    condition     = length(aws_subnet.private) == 3 && length(aws_subnet.database) == 3
    error_message = "a subnet of each kind in each zone"
  }

  assert {
    condition     = length(distinct(concat([for s in aws_subnet.private : s.cidr_block], [for s in aws_subnet.database : s.cidr_block]))) == 6
    error_message = "no two subnets share addresses"
  }

  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL"
    error_message = "all traffic is logged"
  }
}

run "the_whole_of_production" {
  command = apply

  assert {
    condition     = output.service.name == "credit-scoring"
    error_message = "the service has its name"
  }

  assert {
    condition     = keys(output.buckets) == ["decisions", "models"]
    error_message = "buckets of models and decisions"
  }

  assert {
    condition     = keys(output.delivery_roles) == ["build", "deploy"]
    error_message = "roles of the workflows"
  }
}
