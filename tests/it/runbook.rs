//! Every command in `infra/OPERATIONS.md`, taken from the page and run with the AWS CLI where it has something to show or to mend.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use local::runtime_api::{Function, InvocationResult};
use local::{samples, workspace_root};
use serde_json::json;
use simulator::{Provider, TaskView};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::sleep;

use crate::Case;
use crate::callbacks::{binary, event};
use crate::world::{World, call, with};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(every_command_of_the_page_does_what_it_says), case!(the_lines_that_the_page_looks_for_are_logged)]
}

/// A command of the page, and the heading or the bold words that it stands below.
struct Block {
    topic: String,
    script: String,
}

fn page() -> String {
    fs::read_to_string(workspace_root().join("infra/OPERATIONS.md")).expect("the page")
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut topic, mut script) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (line, &mut script) {
            ("```sh", None) => script = Some(String::new()),
            ("```", Some(_)) => {
                blocks.push(Block { topic: topic.clone(), script: script.take().unwrap_or_default() });
            }
            (line, Some(script)) => {
                script.push_str(line);
                script.push('\n');
            }
            (line, None) => {
                if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
                    heading.trim_matches('`').clone_into(&mut topic);
                } else if let Some((words, _)) = line.strip_prefix("**").and_then(|rest| rest.split_once("**")) {
                    let heading = topic.split(": ").next().unwrap_or_default().to_owned();
                    topic = format!("{heading}: {}", words.trim_end_matches('.'));
                }
            }
        }
    }
    blocks
}

/// The page in somebody's shell.
struct Shell<'a> {
    world: &'a World,
    blocks: Vec<Block>,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    directory: PathBuf,
    _process: Child,
}

/// What the shell prints after a command.
const END: &str = "-- end of the command";

impl<'a> Shell<'a> {
    /// Starts a shell and runs the first command of the page in it.
    async fn open(world: &'a World) -> Self {
        let stack = &world.stack;
        let cli = stack.emulator().python().aws();
        let folder = cli.parent().expect("it is in a folder").display().to_string();
        let directory = stack.emulator().directory().join("runbook");
        fs::create_dir_all(&directory).expect("a folder");
        let mut bash = stack.emulator().command("bash");
        bash.args(["-euo", "pipefail"]).current_dir(&directory).kill_on_drop(true);
        bash.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("errors")).expect("a file"));
        bash.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
        let mut process = bash.spawn().expect("bash starts");
        let input = process.stdin.take().expect("it reads");
        let output = BufReader::new(process.stdout.take().expect("it prints")).lines();
        let mut blocks = blocks(&page());
        let set_up = blocks.remove(0).script;
        let mut shell = Self { world, blocks, input, output, directory, _process: process };
        // The CLI ignores `AWS_ENDPOINT_URL` for SQS in some regions, and the URL in the outputs is one of AWS.
        shell.enter("aws() { command aws --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"; }").await;
        assert!(set_up.contains("STACK=reelhook\n"), "{set_up}");
        shell.enter(&set_up.replace("STACK=reelhook\n", "STACK=reelhook-it\n")).await;
        let tasks = stack.outputs().tasks_url.trim_end_matches('/');
        shell.enter(&format!("TASKS={tasks}/")).await;
        shell
    }

    /// Runs the next command below this heading, about a task. Returns what it printed.
    async fn run(&mut self, topic: &str, task: &str) -> String {
        let at = self.blocks.iter().position(|block| block.topic == topic);
        let at = at.unwrap_or_else(|| panic!("no command is left below {topic:?}"));
        let script = self.blocks.remove(at).script;
        let script = script.replace("kling/job-1", task).replace("vidu/job-1", task);
        self.enter(&script).await
    }

    async fn enter(&mut self, script: &str) -> String {
        let line = format!("{script}\nprintf '\\n%s\\n' '{END}'\n");
        // A shell that has ended shows below.
        let _ = self.input.write_all(line.as_bytes()).await;
        let mut printed = String::new();
        while let Some(line) = self.output.next_line().await.expect("it prints text") {
            if line == END {
                return printed;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        panic!("{script}\nfailed: {}", fs::read_to_string(self.directory.join("errors")).unwrap_or_default())
    }
}

async fn every_command_of_the_page_does_what_it_says(world: Arc<World>) {
    let mut shell = Shell::open(&world).await;
    look(&mut shell).await;
    lost(&mut shell).await;
    dead_letters(&mut shell).await;
    interrupted(&mut shell).await;
    // What nothing has happened for, or what only the account knows, at least runs.
    for alarm in [
        "RefutedHintAlarm",
        "UnconfirmedCallbackAlarm",
        "CallbackUnavailableAlarm",
        "CallbackUnreadableAlarm",
        "CallbacksMissingAlarm",
        "ProcessThrottledAlarm",
        "QueueAgeAlarm",
        "QueueFailedAlarm",
        "PollRefusedAlarm",
    ] {
        shell.run(&format!("{alarm}: Which tasks"), "kling/none").await;
    }
    for alarm in [
        "CallbacksMissingAlarm",
        "CallbackThrottledAlarm",
        "CallbackErrorsAlarm",
        "ProcessErrorsAlarm",
        "PollLeftOverAlarm",
    ] {
        shell.run(&format!("{alarm}: What to do"), "").await;
    }
    let schedules = shell.run("PollMissingAlarm: What to do", "").await;
    assert!(schedules.contains("\tENABLED\n"), "{schedules}");
    let before = shell.world.item("kling/runbook-open").await;
    shell.run("PollErrorsAlarm: What to do", "kling/runbook-open").await;
    world.wait_until("kling/runbook-open", "looked at", |_| true).await;
    assert_eq!(before["state"], shell.world.item("kling/runbook-open").await["state"]);
    let settings = world.stack.outputs().settings_secret.clone();
    shell.run("Changing keys", "").await;
    let settings = json!({ "SecretId": settings });
    let (client, endpoint) = (&world.client, world.stack.endpoint());
    let stored = call(client, endpoint, "secretsmanager", "secretsmanager.GetSecretValue", &settings).await;
    assert!(stored["SecretString"].as_str().is_some_and(|text| text.contains("\"version\"")), "the settings are kept");
    let untried: Vec<&str> = shell.blocks.iter().map(|block| block.topic.as_str()).collect();
    assert!(untried.is_empty(), "nobody tries the commands below {untried:?}");
}

/// One task, all open ones, those of a state, the logs.
async fn look(shell: &mut Shell<'_>) {
    let world = shell.world;
    world.submit(Provider::Kling, "runbook", "").await;
    world.submit(Provider::Kling, "runbook-open", "delay=90000 callback=lose").await;
    world.assert_archived_by_any("kling/runbook").await;
    let one = shell.run("Where to look: One task", "kling/runbook").await;
    for expected in ["\"state\":\"archived\"", "\"S\": \"archived\"", "tasks/kling/runbook/result.json"] {
        assert!(one.contains(expected), "{one}");
    }
    let open = shell.run("Where to look: All open tasks", "").await;
    assert!(open.contains("\tkling/runbook-open\n") && !open.contains("kling/runbook\n"), "{open}");
    shell.run("Where to look: By state", "").await;
    let logs = shell.run("Where to look: Logs", "kling/runbook").await;
    assert!(logs.contains("\"settled\""), "{logs}");
}

async fn lost(shell: &mut Shell<'_>) {
    let world = shell.world;
    let path = "kling/runbook-lost?provider_task_id=nobody-has-this";
    assert_eq!(world.client.put(path, String::new()).await.expect("a response").status, 201);
    world.set_number_attribute("kling/runbook-lost", "deadline_at", 1_700_000_000).await;
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    world.wait_until_final("kling/runbook-lost").await;
    let lost = shell.run("LostTasksAlarm: Which tasks", "kling/runbook-lost").await;
    assert!(lost.contains("kling/runbook-lost") && lost.contains("no final state until the deadline"), "{lost}");
}

/// A reported task whose message ended in the dead-letter queue, beside one that is no message.
async fn dead_letters(shell: &mut Shell<'_>) {
    let world = shell.world;
    let view = world.submit(Provider::Kling, "runbook-dead", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let environment = with(world.environment(), "QUEUE_URL", "http://127.0.0.1:9/nowhere");
    let mut function = Function::start(&binary(world, "callback"), &environment).await.expect("it starts");
    let recorded = function.invoke(event(&callback), Duration::from_secs(10)).await;
    assert!(matches!(&recorded, InvocationResult::Response(response) if response["statusCode"] == 200), "{recorded:?}");
    // Not due for an hour: nothing but the redrive brings it on.
    world.set_number_attribute("kling/runbook-dead", "due_at", 4_000_000_000).await;
    send_to_dead_letters(world, &json!({ "version": "1", "task": "kling/runbook-dead" }).to_string()).await;
    let dead = shell.run("DeadLetterAlarm: Which tasks", "").await;
    assert!(dead.contains("kling/runbook-dead"), "{dead}");
    shell.run("DeadLetterAlarm: What to do", "").await;
    world.assert_archived("kling/runbook-dead", "callback").await;
    // Once more, of a task that is final: nothing changes.
    let settled = world.item("kling/runbook-dead").await;
    world.enqueue("kling/runbook-dead").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.item("kling/runbook-dead").await, settled);
    send_to_dead_letters(world, "no message of reelhook").await;
    shell.run("DeadLetterAlarm: What to do", "").await;
    let left = json!({ "QueueUrl": world.stack.outputs().dead_letter_queue_url });
    let left = call(&world.client, world.stack.endpoint(), "sqs", "AmazonSQS.ReceiveMessage", &left).await;
    assert!(left["Messages"].as_array().is_none_or(Vec::is_empty), "{left}");
}

async fn send_to_dead_letters(world: &World, body: &str) {
    let request = json!({ "QueueUrl": world.stack.outputs().dead_letter_queue_url, "MessageBody": body });
    call(&world.client, world.stack.endpoint(), "sqs", "AmazonSQS.SendMessage", &request).await;
}

async fn interrupted(shell: &mut Shell<'_>) {
    let world = shell.world;
    let response = world.try_submit(Provider::Kling, "runbook-interrupted", "submit=error500 callback=lose").await;
    assert_eq!(response.status, 504, "{}", response.body);
    let which = shell.run("TasksErrorsAlarm: Which tasks", "").await;
    assert!(which.contains("kling/runbook-interrupted"), "{which}");
    let resolved = shell.run("TasksErrorsAlarm: What to do", "kling/runbook-interrupted").await;
    assert!(resolved.contains("\"provider_task_id\":\"the-id-at-the-provider\""), "{resolved}");

    let submissions = || {
        let here =
            |task: &TaskView| task.callback_url.as_deref().is_some_and(|url| url.contains("runbook-resubmitted"));
        world.simulator.tasks().into_iter().filter(here).count()
    };
    let script = "submit=error500 callback=lose";
    let response = world.try_submit(Provider::Vidu, "runbook-resubmitted", script).await;
    assert_eq!((response.status, submissions()), (504, 1), "{}", response.body);
    let body = samples::of(Provider::Vidu).body(&format!("a paper boat [simulate {script}]"));
    fs::write(shell.directory.join("submission.json"), body.to_string()).expect("a file");
    let again = shell.run("TasksErrorsAlarm: What to do", "vidu/runbook-resubmitted").await;
    assert_eq!(submissions(), 2, "{again}");
}

/// Every phrase that the page searches a log for is one that a function writes.
async fn the_lines_that_the_page_looks_for_are_logged(_world: Arc<World>) {
    let page = page();
    let searches: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("logs_of ")?.split_once(" \""))
        .map(|(function, phrase)| (function, phrase.trim_end_matches('"')))
        .collect();
    assert!(searches.len() >= 5, "{searches:?}");
    for (function, phrase) in searches {
        let mut sources = String::new();
        for crate_of_it in [function, "aws"] {
            read_sources(&workspace_root().join("functions").join(crate_of_it), &mut sources);
        }
        assert!(sources.contains(phrase), "{function} does not log {phrase:?}");
    }
}

fn read_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &fs::read_to_string(path).expect("a source");
        }
    }
}
