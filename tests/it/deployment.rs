//! The template as a stranger deploys it: without settings at first, watched, removed, and taken over by another stack.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use local::client::Client;
use local::functions::build_packages;
use local::{DeployRequest, Outputs, Progress, demonstration, samples};
use serde_json::{Value, json};
use simulator::Provider;
use tokio::time::{Instant, sleep};

use crate::Case;
use crate::world::{World, call};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_stack_without_settings_says_so_and_alarms_nobody),
        case!(a_deleted_stack_leaves_its_results_and_another_takes_them_over),
        case!(an_api_and_a_key_of_ones_own_serve_as_well),
        case!(a_first_deployment_that_fails_leaves_nothing),
        case!(every_alarm_reaches_the_topic),
    ]
}

async fn deploy(world: &World, name: &str, parameters: &[(&'static str, &str)], settings: Option<Value>) -> Outputs {
    try_deploy(world, name, parameters, settings).await.expect("it is deployed")
}

async fn try_deploy(
    world: &World,
    name: &str,
    parameters: &[(&'static str, &str)],
    settings: Option<Value>,
) -> Result<Outputs, local::Error> {
    let origins = world.simulator.address().to_string();
    let parameters = parameters.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let parameters = parameters.chain([("DangerousAllowedOrigins", origins)]).collect();
    world.stack.deploy_another(DeployRequest { stack_name: name.to_owned(), settings, parameters }).await
}

/// Runs the AWS CLI. Returns what it prints.
pub(crate) async fn aws(world: &World, arguments: &[&str]) -> String {
    let cli = world.stack.emulator().python().aws();
    run(world, cli, arguments).await.unwrap_or_else(|errors| panic!("{arguments:?}: {errors}"))
}

/// Runs a command whose AWS is the emulator. Returns what it prints, or its errors.
pub(crate) async fn run(world: &World, program: PathBuf, arguments: &[&str]) -> Result<String, String> {
    let output = world.stack.emulator().command(program).args(arguments).output().await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

async fn a_stack_without_settings_says_so_and_alarms_nobody(world: Arc<World>) {
    let outputs = deploy(&world, "unset", &[], None).await;
    let client = Client::of(world.stack.endpoint(), &outputs).expect("a client");
    let url = format!("{}/callback/kling/job-1/AAAAAAAAAAAAAAAAAAAAAA", outputs.callback_url);
    assert_eq!(world.post(&url, &[], "{}").await.status, 503, "a 401 would be final");
    let refused = client.get("kling/job-1/callback-url").await.expect("a response");
    assert_eq!(refused.status, 503, "{}", refused.body);
    let polled = world.invoke(&outputs.functions["poll"]).await;
    assert_eq!(polled["due"], 0, "{polled}");
    // A line appears when its invocation has ended.
    let end = Instant::now() + Duration::from_secs(20);
    let arguments = ["logs", "filter-log-events", "--log-group-name", "/aws/lambda/unset-callback", "--output", "text"];
    let mut logged = String::new();
    while !logged.contains("run `cargo run -- settings put settings.json --stack NAME`") {
        assert!(Instant::now() < end, "nobody is told what to do: {logged}");
        sleep(Duration::from_millis(500)).await;
        logged = aws(&world, &arguments).await;
    }

    let file = world.stack.emulator().directory().join("settings.json");
    let file = file.to_str().expect("a path");
    let built = build_packages(&["local"], "dev", Progress::Silent).await.expect("it is built");
    let settings =
        async |arguments: &[&str]| run(&world, built["local"].clone(), &[&["settings"], arguments].concat()).await;
    settings(&["init", "kling", "--file", file]).await.expect("it is written");
    let empty = settings(&["put", file, "--stack", "unset"]).await.expect_err("no key is filled in");
    assert!(empty.contains("providers.kling.api_key is empty"), "{empty}");
    let filled = fs::read_to_string(file).expect("the file").replace("\"api_key\": \"\"", "\"api_key\": \"sk-1\"");
    fs::write(file, filled).expect("it is written");
    let unknown = settings(&["put", file, "--stack", "no-such-stack"]).await.expect_err("there is no such stack");
    assert!(unknown.contains("no-such-stack") && unknown.contains("nothing was stored"), "{unknown}");
    settings(&["put", file, "--stack", "unset"]).await.expect("it is stored");
    let given = client.get("kling/job-1/callback-url").await.expect("a response");
    assert_eq!(given.status, 200, "{}", given.body);
    aws(&world, &["cloudformation", "delete-stack", "--stack-name", "unset"]).await;
}

/// Submits a task to a stack. Returns the status of the response and when it was submitted, once its result is in the bucket.
async fn submit(world: &World, outputs: &Outputs, id: &str) -> (u16, Value) {
    let client = Client::of(world.stack.endpoint(), outputs).expect("a client");
    let response = client.submit(samples::of(Provider::MaxApi), id, "a paper boat").await.expect("a response");
    assert!(matches!(response.status, 200 | 201), "{}", response.body);
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let view = client.get(&format!("maxapi/{id}")).await.expect("a response").body;
        if view["state"] == "archived" {
            assert_eq!(view["reported_by"], "callback", "{view}");
            return (response.status, view["submitted_at"].clone());
        }
        assert!(Instant::now() < end, "{view}");
        sleep(Duration::from_millis(300)).await;
    }
}

async fn an_api_and_a_key_of_ones_own_serve_as_well(world: Arc<World>) {
    let key = aws(&world, &["kms", "create-key", "--output", "text", "--query", "KeyMetadata.Arn"]).await;
    let parameters = [("Endpoint", "HttpApi"), ("KeyArn", key.trim()), ("Tracing", "Active")];
    let outputs = deploy(&world, "by-api", &parameters, Some(demonstration::settings(&world.simulator))).await;
    assert!(outputs.callback_url.contains("execute-api"), "{}", outputs.callback_url);
    assert_eq!(submit(&world, &outputs, "by-api").await.0, 201);
    aws(&world, &["cloudformation", "delete-stack", "--stack-name", "by-api"]).await;
}

async fn a_deleted_stack_leaves_its_results_and_another_takes_them_over(world: Arc<World>) {
    let settings = || Some(demonstration::settings(&world.simulator));
    let first = deploy(&world, "first", &[], settings()).await;
    let (status, submitted_at) = submit(&world, &first, "removed").await;
    assert_eq!(status, 201);
    aws(&world, &["cloudformation", "delete-stack", "--stack-name", "first"]).await;
    let skipped = "StackEvents[?ResourceStatus=='DELETE_SKIPPED'].LogicalResourceId";
    let arguments = ["cloudformation", "describe-stack-events", "--stack-name", "first", "--output", "text"];
    let events = aws(&world, &[&arguments[..], &["--query", skipped]].concat()).await;
    for resource in ["TasksTable", "ResultsBucket", "ResultsBucketPolicy"] {
        assert!(events.split_whitespace().any(|kept| kept == resource), "{resource} is gone: {events}");
    }

    let adopted = [("ExistingTable", first.table_name.as_str()), ("ExistingBucket", first.bucket_name.as_str())];
    let second = deploy(&world, "second", &adopted, settings()).await;
    assert_eq!((&second.table_name, &second.bucket_name), (&first.table_name, &first.bucket_name));
    assert_eq!(submit(&world, &second, "removed").await, (200, submitted_at), "it is known");
    assert_eq!(submit(&world, &second, "adopted").await.0, 201);
    aws(&world, &["cloudformation", "delete-stack", "--stack-name", "second"]).await;
    let key = "tasks/maxapi/adopted/result.json";
    aws(&world, &["s3api", "head-object", "--bucket", &second.bucket_name, "--key", key]).await;
    let half = [("ExistingTable", first.table_name.as_str())];
    let refused = try_deploy(&world, "half", &half, None).await.expect_err("a table without its bucket");
    assert!(refused.to_string().contains("belong together"), "{refused}");
}

async fn a_first_deployment_that_fails_leaves_nothing(world: Arc<World>) {
    let domain = ["apigatewayv2", "create-domain-name", "--domain-name", "hooks.taken.test"];
    let certificate = format!("arn:aws:acm:{}:000000000000:certificate/1", local::REGION);
    aws(&world, &[&domain[..], &["--domain-name-configurations", &format!("CertificateArn={certificate}")]].concat())
        .await;
    let parameters =
        [("Endpoint", "HttpApi"), ("DomainName", "hooks.taken.test"), ("CertificateArn", certificate.as_str())];
    let refused = try_deploy(&world, "broken", &parameters, None).await.expect_err("the domain is taken");
    assert!(refused.to_string().contains("domain name you provided already exists"), "{refused}");
    // The emulator has not made the table by then. On AWS it may be there, and plain `Retain` would keep it.
    let template = fs::read_to_string(local::workspace_root().join("infra/template.yaml")).expect("the template");
    assert!(template.contains("DeletionPolicy: RetainExceptOnCreate\n"));
    assert!(!template.contains("DeletionPolicy: Retain\n"), "it stays after a first deployment that fails");
    let tables = aws(&world, &["dynamodb", "list-tables", "--output", "text"]).await;
    let buckets = aws(&world, &["s3api", "list-buckets", "--output", "text"]).await;
    assert!(!tables.to_lowercase().contains("broken") && !buckets.contains("broken"), "{tables}{buckets}");
}

/// Each alarm is set off by hand; a queue that subscribes to the topic is told of all of them.
async fn every_alarm_reaches_the_topic(world: Arc<World>) {
    let stack = "reelhook-it";
    let outputs = ["cloudformation", "describe-stacks", "--stack-name", stack, "--output", "text", "--query"];
    let topic = "Stacks[0].Outputs[?OutputKey=='AlarmTopicArn'].OutputValue";
    let topic = aws(&world, &[&outputs[..], &[topic]].concat()).await;
    let (client, endpoint) = (&world.client, world.stack.endpoint());
    let arn = format!("arn:aws:sqs:{}:000000000000:told-of-alarms", local::REGION);
    let service = json!({ "Service": "sns.amazonaws.com" });
    let statement = json!([{ "Effect": "Allow", "Principal": service, "Action": "sqs:SendMessage", "Resource": arn }]);
    let policy = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
    let queue = json!({ "QueueName": "told-of-alarms", "Attributes": { "Policy": policy } });
    let queue = call(client, endpoint, "sqs", "AmazonSQS.CreateQueue", &queue).await["QueueUrl"].clone();
    let arguments =
        ["sns", "subscribe", "--topic-arn", topic.trim(), "--protocol", "sqs", "--notification-endpoint", &arn];
    aws(&world, &arguments).await;
    let alarms = "StackResources[?ResourceType=='AWS::CloudWatch::Alarm'].PhysicalResourceId";
    let resources =
        ["cloudformation", "describe-stack-resources", "--stack-name", stack, "--output", "text", "--query"];
    let alarms = aws(&world, &[&resources[..], &[alarms]].concat()).await;
    let mut untold: Vec<&str> = alarms.split_whitespace().collect();
    assert!(untold.len() > 15, "{untold:?}");
    for alarm in &untold {
        let state = [
            "cloudwatch",
            "set-alarm-state",
            "--alarm-name",
            alarm,
            "--state-value",
            "ALARM",
            "--state-reason",
            "a test",
        ];
        aws(&world, &state).await;
    }
    let end = Instant::now() + Duration::from_secs(20);
    while !untold.is_empty() {
        assert!(Instant::now() < end, "nobody was told of {untold:?}");
        let request = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
        let received = call(client, endpoint, "sqs", "AmazonSQS.ReceiveMessage", &request).await;
        for message in received["Messages"].as_array().into_iter().flatten() {
            let body = message["Body"].as_str().unwrap_or_default();
            untold.retain(|alarm| !body.contains(alarm));
        }
    }
}
