//! What a script makes a task do.

use std::time::Duration;

use serde_json::json;
use simulator::{Config, Outcome, Phase, Provider};

use crate::{
    TIMEOUT,
    customer::{Customer, body_of, start},
    receiver::{Received, Receiver},
};

/// A `MaxAPI` task with a script: the simplest provider, for tests that work with any.
async fn max_task(customer: &Customer<'_>, receiver: &Receiver, script: &str) -> String {
    let body = json!({ "model": "m", "input": { "prompt": format!("x [simulate {script}]") }, "callBackUrl": receiver.url("/hook") });
    let (_, response) = customer.post("/api/v1/task/submit", &body).await;
    response["data"]["taskId"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned()
}

#[tokio::test]
async fn scripts_control_the_callbacks() {
    let simulator = start(Config { time_scale: 0.05, ..Config::default() });
    let customer = Customer::new(&simulator, Provider::MaxApi);
    let status = |callback: &Received| body_of(callback)["data"]["status"].clone();

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 deliveries=4").await;
    let copies = receiver.wait_for(4).await;
    assert!(copies.iter().all(|copy| copy.body == copies[0].body), "four copies");

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 deliveries=2 spaced order=late_processing").await;
    let arrived = receiver.wait_for(3).await;
    assert_eq!(arrived.iter().map(status).collect::<Vec<_>>(), ["SUCCESS", "SUCCESS", "SUBMITTED"]);

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 outcome=fail then=succeed").await;
    let arrived = receiver.wait_for(2).await;
    assert_eq!(arrived.iter().map(status).collect::<Vec<_>>(), ["FAILURE", "SUCCESS"]);

    let receiver = Receiver::start().await;
    let id = max_task(&customer, &receiver, "delay=0.2 early").await;
    assert_eq!(receiver.received().len(), 1, "before the response");

    // Callbacks can be sent again on demand, and lost ones for the first time.
    assert!(simulator.deliver(&id).await.expect("a callback").accepted());
    assert_eq!(receiver.received().len(), 2);
    let id = max_task(&customer, &receiver, "delay=0 callback=lose").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.received().len(), 2);
    let prepared = simulator.callback(&id).expect("a callback");
    let delivery = simulator.deliver(&id).await.expect("a delivery");
    assert_eq!((prepared.body, Some(200)), (delivery.body, delivery.status));
}

#[tokio::test]
async fn a_test_can_change_the_script_of_a_running_task() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::MaxApi);
    let id = max_task(&customer, &receiver, "delay=600").await;
    assert_eq!(simulator.task(&id).map(|task| matches!(task.phase, Phase::Open(_))), Some(true));
    assert!(simulator.script(&id, |script| {
        script.outcome = Outcome::Moderated;
        script.delay = Duration::ZERO;
    }));
    let arrived = receiver.wait_for(1).await;
    assert_eq!(body_of(&arrived[0])["data"]["failure_reason"], "CONTENT_MODERATION");
    assert!(!simulator.script("unknown", |_| ()));
    let task = simulator.wait_for(&id, TIMEOUT, |task| task.deliveries.iter().any(simulator::Delivery::accepted)).await;
    assert_eq!(task.expect("delivered").deliveries[0].attempt, 1);
}

#[tokio::test]
async fn every_submission_failure_can_be_scripted() {
    let simulator = start(Config { hang: Duration::from_mins(1), ..Config::default() });
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Ark);
    let body = |script: &str| json!({ "model": "m", "content": [{ "type": "text", "text": format!("[simulate {script}]") }], "callback_url": receiver.url("/hook") });
    let path = "/contents/generations/tasks";
    for (script, status, code) in [
        ("submit=refuse", 400, "InvalidParameter"),
        ("submit=moderate", 400, "InputTextSensitiveContentDetected"),
        ("submit=balance", 403, "AccountOverdueError"),
        ("submit=busy", 429, "RateLimitExceeded.EndpointRPMExceeded"),
        ("videos=2", 400, "InvalidParameter"),
    ] {
        let (got, response) = customer.post(path, &body(script)).await;
        assert_eq!((got, response["error"]["code"].as_str()), (status, Some(code)), "{script}");
    }
    assert!(simulator.tasks().is_empty(), "refused");

    assert_eq!(customer.post(path, &body("submit=error500 delay=0")).await.0, 500);
    assert_eq!(simulator.tasks().len(), 1, "created anyway");
    let request = customer.authorized(customer.client.post(customer.url(path)));
    let hanging = request.json(&body("submit=timeout delay=0")).timeout(Duration::from_millis(300)).send().await;
    assert!(hanging.expect_err("no response").is_timeout());
    assert_eq!(simulator.tasks().len(), 2, "created anyway");
    receiver.wait_for(2).await;
}

#[tokio::test]
async fn dropping_the_simulator_frees_its_port() {
    let simulator = start(Config::default());
    let address = simulator.address();
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(simulator);
    let mut free = false;
    for _ in 0..100 {
        free = std::net::TcpListener::bind(address).is_ok();
        if free {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(free, "the port is free again");
}
