//! The examples of `infra/examples`, deployed beside the stack: one event for each outcome reaches every consumer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use local::functions::build_packages;
use local::{Progress, workspace_root};
use serde_json::{Value, json};
use simulator::Provider;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::Case;
use crate::deployment::{aws, run};
use crate::world::{World, call, print_error};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(every_consumer_hears_of_each_outcome_once), case!(links_are_signed_for_viewers)]
}

const API_KEY: &str = "a-key-of-the-endpoint";

/// The `sh` blocks of the page, in one shell.
async fn run_the_page(world: &World, endpoint_url: &str) {
    let page = fs::read_to_string(workspace_root().join("infra/examples/README.md")).expect("the page");
    let blocks: String = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let blocks = blocks.replace("--stack-name reelhook ", "--stack-name reelhook-it ");
    let folder = world.stack.emulator().python().aws();
    let folder = folder.parent().expect("it is in a folder").display().to_string();
    let mut bash = world.stack.emulator().command("bash");
    bash.args(["-euo", "pipefail", "-c", &blocks]).current_dir(workspace_root());
    bash.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
    let ran = bash.env("ENDPOINT_URL", endpoint_url).env("API_KEY", API_KEY).output().await.expect("bash runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// As `sam build` and `sam deploy` do, with the binary of this machine.
async fn deploy_the_function(world: &World) {
    let built = build_packages(&["consumer"], "dev", Progress::Silent).await.expect("it is built");
    let directory = world.stack.emulator().directory().join("consumer");
    fs::create_dir_all(directory.join("function")).expect("a folder");
    fs::copy(&built["consumer"], directory.join("function/bootstrap")).expect("it is copied");
    let template = directory.join("function.yaml");
    fs::copy(workspace_root().join("infra/examples/function.yaml"), &template).expect("it is copied");
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let (template, packaged) = (path(&template), path(&directory.join("packaged.yaml")));
    let package =
        ["cloudformation", "package", "--template-file", &template, "--s3-bucket", "reelhook-local-artifacts"];
    aws(world, &[&package[..], &["--output-template-file", &packaged]].concat()).await;
    let bucket = format!("BucketName={}", world.stack.outputs().bucket_name);
    let deploy = ["cloudformation", "deploy", "--template-file", &packaged, "--stack-name", "results-function"];
    let parameters = ["--capabilities", "CAPABILITY_IAM", "--parameter-overrides", &bucket];
    aws(world, &[&deploy[..], &parameters].concat()).await;
}

async fn queue_of(world: &World, stack: &str) -> String {
    let query = "Stacks[0].Outputs[?OutputKey=='QueueUrl'].OutputValue";
    let describe = ["cloudformation", "describe-stacks", "--stack-name", stack, "--output", "text", "--query", query];
    aws(world, &describe).await.trim().to_owned()
}

/// How often each key was in a message of a queue.
async fn drain(world: &World, queue: &str, keys: &mut BTreeMap<String, u32>) {
    loop {
        let (client, endpoint) = (&world.client, world.stack.endpoint());
        let request = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 });
        let received = call(client, endpoint, "sqs", "AmazonSQS.ReceiveMessage", &request).await;
        let Some(messages) = received["Messages"].as_array().filter(|messages| !messages.is_empty()) else { return };
        for message in messages {
            let body: Value = serde_json::from_str(message["Body"].as_str().unwrap_or_default()).unwrap_or_default();
            let object = [&body["detail"]["object"], &body["Records"][0]["s3"]["object"]];
            if let Some(key) = object.iter().find_map(|object| object["key"].as_str()) {
                *keys.entry(key.to_owned()).or_default() += 1;
            }
            let delete = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
            call(client, endpoint, "sqs", "AmazonSQS.DeleteMessage", &delete).await;
        }
    }
}

async fn every_consumer_hears_of_each_outcome_once(world: Arc<World>) {
    let posted = Arc::new(Mutex::new(Vec::<Value>::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint_url = format!("http://{}/results", listener.local_addr().expect("an address"));
    let received = Arc::clone(&posted);
    let application = Router::new().fallback(move |headers: HeaderMap, body: String| async move {
        if headers.get("x-api-key").is_none_or(|key| key != API_KEY) {
            return StatusCode::UNAUTHORIZED;
        }
        received.lock().expect("no panic").push(serde_json::from_str(&body).unwrap_or_default());
        StatusCode::NO_CONTENT
    });
    let serving = tokio::spawn(async move { axum::serve(listener, application).await });
    run_the_page(&world, &endpoint_url).await;
    deploy_the_function(&world).await;

    world.submit(Provider::Kling, "consumed", "").await;
    world.submit(Provider::Kling, "consumed-failure", "outcome=fail").await;
    world.wait_until_final("kling/consumed").await;
    world.wait_until_final("kling/consumed-failure").await;
    a_workflow_ends_with_its_task(&world).await;
    let expected = ["consumed", "consumed-failure"].map(|id| format!("tasks/kling/{id}/result.json"));

    let queues = [queue_of(&world, "results-queue").await, queue_of(&world, "results-notification").await];
    let mut counts: [BTreeMap<String, u32>; 4] = Default::default();
    let end = Instant::now() + Duration::from_secs(40);
    let mut extra = 3;
    // Until each has come everywhere, and some seconds more for one too many.
    while extra > 0 {
        assert!(Instant::now() < end, "queue, notification, endpoint, function: {counts:?}");
        sleep(Duration::from_secs(1)).await;
        for (queue, keys) in queues.iter().zip(&mut counts) {
            drain(&world, queue, keys).await;
        }
        counts[2].clear();
        for event in posted.lock().expect("no panic").iter() {
            *counts[2].entry(event["detail"]["object"]["key"].as_str().unwrap_or_default().to_owned()).or_default() +=
                1;
        }
        counts[3] = logged(&world).await;
        if expected.iter().all(|key| counts.iter().all(|keys| keys.contains_key(key))) {
            extra -= 1;
        }
    }
    for (consumer, keys) in ["queue", "notification", "endpoint", "function"].iter().zip(&counts) {
        for key in &expected {
            assert_eq!(keys[key], 1, "{consumer}: {key}");
        }
    }
    serving.abort();
    for stack in ["queue", "notification", "endpoint", "function", "workflow"] {
        aws(&world, &["cloudformation", "delete-stack", "--stack-name", &format!("results-{stack}")]).await;
    }
}

/// One workflow for each end of a task, and one for a refused submission.
async fn a_workflow_ends_with_its_task(world: &World) {
    let query = "Stacks[0].Outputs[?OutputKey=='WorkflowArn'].OutputValue";
    let describe =
        ["cloudformation", "describe-stacks", "--stack-name", "results-workflow", "--output", "text", "--query", query];
    let workflow = aws(world, &describe).await.trim().to_owned();
    let sample = local::samples::of(Provider::Kling);
    let endpoint = sample.endpoint.expect("Kling has several");
    let mut executions = Vec::new();
    for (id, script, status) in [
        ("in-a-workflow", "", "SUCCEEDED"),
        ("in-a-workflow-moderated", "outcome=moderated", "FAILED"),
        ("in-a-workflow-refused", "submit=balance", "FAILED"),
    ] {
        let request = sample.body(&format!("a paper boat [simulate {script}]"));
        let input =
            json!({ "provider": "kling", "id": id, "query": format!("endpoint={endpoint}"), "request": request });
        let start =
            ["stepfunctions", "start-execution", "--state-machine-arn", &workflow, "--input", &input.to_string()];
        let started: Value = serde_json::from_str(&aws(world, &start).await).expect("JSON");
        executions.push((id, status, started["executionArn"].as_str().expect("an ARN").to_owned()));
    }
    for (id, status, execution) in executions {
        let end = Instant::now() + Duration::from_mins(2);
        let ended = loop {
            let describe = ["stepfunctions", "describe-execution", "--execution-arn", &execution];
            let described: Value = serde_json::from_str(&aws(world, &describe).await).expect("JSON");
            if described["status"] != "RUNNING" {
                break described;
            }
            assert!(Instant::now() < end, "{id}: {described}");
            sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(ended["status"], status, "{id}: {ended}");
        match id {
            "in-a-workflow" => {
                let task: Value = serde_json::from_str(ended["output"].as_str().expect("an output")).expect("JSON");
                assert_eq!(task["artifacts"][0]["key"], "tasks/kling/in-a-workflow/video.mp4", "{task}");
            }
            "in-a-workflow-moderated" => assert_eq!(ended["error"], "content_moderation", "{ended}"),
            _ => {
                assert!(ended["cause"].as_str().is_some_and(|cause| cause.contains("insufficient_credits")), "{ended}");
            }
        }
    }
}

/// What the function logged, as the keys of the results that it read.
async fn logged(world: &World) -> BTreeMap<String, u32> {
    let logs = ["logs", "filter-log-events", "--log-group-name", "/aws/lambda/results-function", "--output", "json"];
    let logs: Value = serde_json::from_str(&aws(world, &logs).await).expect("JSON");
    let mut keys = BTreeMap::new();
    for event in logs["events"].as_array().into_iter().flatten() {
        let line: Value = serde_json::from_str(event["message"].as_str().unwrap_or_default()).unwrap_or_default();
        let is_one = line["message"] == "there is no result" || line["kind"] == "video";
        if let Some(task) = line["task"].as_str().filter(|_| is_one) {
            *keys.entry(format!("tasks/{task}/result.json")).or_default() += 1;
        }
    }
    keys
}

async fn links_are_signed_for_viewers(world: Arc<World>) {
    let bucket = &world.stack.outputs().bucket_name;
    let view = world.submit(Provider::Kling, "viewed", "").await;
    world.submit(Provider::Kling, "viewed-failure", "outcome=fail").await;
    world.wait_until_final("kling/viewed").await;
    world.wait_until_final("kling/viewed-failure").await;
    let examples = workspace_root().join("infra/examples");
    let python = world.stack.emulator().python().python();
    let mut programs = vec![(python, examples.join("presign.py"))];
    if let Some(script) = installed_for_node(&world).await {
        programs.push(("node".into(), script));
    } else {
        print_error("presign.mjs was not tried: it needs Node.js and npm");
    }
    for (program, script) in programs {
        let script = script.to_str().expect("a path");
        let links = run(&world, program.clone(), &[script, bucket, "kling/viewed"]).await.expect("it prints links");
        let link = links.lines().find_map(|line| line.strip_prefix("video ")).expect("a link to the video");
        let response = world.client.http().get(link).send().await.expect("a response");
        let (status, file) = (response.status(), response.bytes().await.expect("a body"));
        let is_right = file == world.simulator.file(view["provider_task_id"].as_str().expect("an id"));
        assert!(is_right, "{script}: {status} {}", String::from_utf8_lossy(&file[..file.len().min(500)]));
        let failure = run(&world, program, &[script, bucket, "kling/viewed-failure"]).await.expect_err("it has none");
        assert!(failure.contains("kling/viewed-failure failed: "), "{failure}");
    }
}

/// The script beside the packages that it needs; none without npm.
async fn installed_for_node(world: &World) -> Option<std::path::PathBuf> {
    let directory = world.stack.emulator().directory().join("node");
    fs::create_dir_all(&directory).expect("a folder");
    let script = directory.join("presign.mjs");
    fs::copy(workspace_root().join("infra/examples/presign.mjs"), &script).expect("it is copied");
    let packages = ["install", "--silent", "@aws-sdk/client-s3@3", "@aws-sdk/s3-request-presigner@3"];
    let mut npm = world.stack.emulator().command("npm");
    let installed = npm.args(packages).current_dir(&directory).output().await.is_ok_and(|npm| npm.status.success());
    installed.then_some(script)
}
