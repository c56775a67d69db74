//! What `cargo run -- up` prints: the endpoints, and commands to copy and paste.

use std::fmt::Write as _;

use local::client::Client;
use local::samples::SAMPLES;
use local::{Error, Stack};
use simulator::{Provider, Simulator};

/// The text. Its commands work unchanged against this stack.
pub(crate) async fn text(stack: &Stack, simulator: &Simulator, console: &str) -> Result<String, Error> {
    let outputs = stack.outputs();
    let mut text = format!(
        "\nreelhook is running. Press Ctrl-C to stop it.\n\n\
         page        {console}\n\
         callbacks   {}/callback/{{provider}}/{{id}}/{{token}}\n\
         tasks       {}/tasks/{{provider}}/{{id}}\n\
         providers   {}   (simulated)\n\
         bucket      s3://{}\n\
         table       {}\n\n\
         Submit a task (the simulated provider makes a video and calls back), then get it. The function requires IAM signatures:\n\n    \
         signed='--aws-sigv4 aws:amz:{}:lambda --user {}:{}'\n",
        outputs.callback_url,
        outputs.tasks_url,
        simulator.origin(),
        outputs.bucket_name,
        outputs.table_name,
        local::REGION,
        local::ACCESS_KEY_ID,
        local::SECRET_ACCESS_KEY,
    );
    for sample in SAMPLES {
        let endpoint = sample.endpoint.map(|endpoint| format!("?endpoint={endpoint}")).unwrap_or_default();
        let url = format!("{}/tasks/{}/my-first{endpoint}", outputs.tasks_url, sample.provider);
        let _ =
            writeln!(text, "    curl $signed -X PUT '{url}' -d '{}'", sample.body("a paper boat on a rainy street"));
    }
    let _ = write!(
        text,
        "\n    curl $signed {}/tasks/kling/my-first\n\n\
         Control the simulated provider from the prompt: [simulate outcome=fail], [simulate callback=lose],\n\
         [simulate deliveries=5], [simulate delay=10]. Tasks with lost callbacks are recovered by poll, which runs every minute.\n\n\
         Send a Kling callback by hand, signed as Kling signs it (any change to the signed body gets a 401):\n\n{}\n\
         List the bucket:\n\n    \
         export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_DEFAULT_REGION={}\n    \
         {} --endpoint-url {} s3 ls --recursive s3://{}\n\n",
        outputs.tasks_url,
        by_hand(stack, simulator).await?,
        local::ACCESS_KEY_ID,
        local::SECRET_ACCESS_KEY,
        local::REGION,
        stack.emulator().python().aws().display(),
        stack.endpoint(),
        outputs.bucket_name,
    );
    Ok(text)
}

/// Shell commands that sign and send a Kling callback for a task that was never submitted.
async fn by_hand(stack: &Stack, simulator: &Simulator) -> Result<String, Error> {
    let callback_url = Client::new(stack)?.callback_url("kling/by-hand").await?;
    let secret = simulator.config().account(Provider::Kling).signing_secret.unwrap_or_default();
    let origin = simulator.origin();
    Ok(format!(
        "    body='{{\"id\":\"800000000000000001\",\"status\":\"succeeded\",\"outputs\":[{{\"type\":\"video\",\"url\":\"{origin}/origin/by-hand.mp4\"}}]}}'\n    \
         secret='{secret}'\n    \
         key=$(printf %s \"${{secret#whsec_}}\" | base64 -d | od -An -v -tx1 | tr -d ' \\n')\n    \
         now=$(date +%s)\n    \
         signature=$(printf 'msg-1.%s.%s' \"$now\" \"$body\" | openssl dgst -sha256 -mac HMAC -macopt \"hexkey:$key\" -binary | base64)\n    \
         curl -i '{callback_url}' -d \"$body\" -H 'content-type: application/json' \\\n         \
         -H 'webhook-id: msg-1' -H \"webhook-timestamp: $now\" -H \"webhook-signature: v1,$signature\"\n"
    ))
}
