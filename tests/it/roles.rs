//! The roles of the template against what the functions did while all cases ran. The emulator refuses what a role does not
//! allow; this finds what a role allows for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::deployment::aws;
use crate::world::{World, print_error};

/// What no case sees. Lambda itself writes the logs with a function's role, and receives for it; the emulator does so without.
const UNSEEN: [(&str, &str); 7] = [
    ("", "logs:CreateLogStream"),
    ("", "logs:PutLogEvents"),
    ("Process", "sqs:ReceiveMessage"),
    ("Process", "sqs:DeleteMessage"),
    ("Process", "sqs:GetQueueAttributes"),
    // S3 asks for it when an object is written with tags; the emulator does not.
    ("Process", "s3:PutObjectTagging"),
    // After a race only: a success that it confirms replaces a failure that was reported while it polled.
    ("Process", "sqs:SendMessage"),
];

/// Whether each function used every permission of its role. Prints those that it did not.
pub(crate) async fn allow_what_is_used(world: &World) -> bool {
    let used = used(world);
    let mut is_right = true;
    for function in ["Callback", "Process", "Poll", "Tasks"] {
        let marker = format!("reelhook-it-{function}Role-");
        let roles = aws(world, &["iam", "list-roles", "--output", "text", "--query", "Roles[].RoleName"]).await;
        let role = roles.split_whitespace().find(|role| role.starts_with(&marker)).expect("the role");
        let policy = ["iam", "get-role-policy", "--role-name", role, "--policy-name", &function.to_lowercase()];
        let policy: Value = serde_json::from_str(&aws(world, &policy).await).expect("a policy in JSON");
        let statements = policy["PolicyDocument"]["Statement"].as_array().expect("statements");
        let list = |value: &Value| match value {
            Value::Array(values) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            value => vec![value.as_str().unwrap_or_default().to_owned()],
        };
        let mut allowed: BTreeSet<String> =
            statements.iter().flat_map(|statement| list(&statement["Action"])).collect();
        allowed.remove("sqs:SendMessageBatch");
        let resources: Vec<String> = statements.iter().flat_map(|statement| list(&statement["Resource"])).collect();
        let wildcards = allowed
            .iter()
            .chain(&resources)
            .filter(|text| *text == "*" || text.ends_with(":*") && !text.starts_with("arn:aws:logs:"));
        let none = BTreeSet::new();
        let used = used.get(role).unwrap_or(&none);
        let is_unseen =
            |action: &str| UNSEEN.iter().any(|(of, known)| (of.is_empty() || *of == function) && *known == action);
        let unused = allowed.iter().filter(|action| !used.contains(*action) && !is_unseen(action));
        for what in unused
            .map(|action| format!("allows {action} for nothing"))
            .chain(wildcards.map(|text| format!("allows {text}")))
        {
            print_error(&format!("the role of {function} {what}"));
            is_right = false;
        }
        print_error(&format!("the role of {function} allows {} actions, {} were used", allowed.len(), used.len()));
    }
    is_right
}

/// The actions that each role was allowed.
fn used(world: &World) -> BTreeMap<String, BTreeSet<String>> {
    let noted = fs::read_to_string(world.stack.emulator().directory().join("permissions.jsonl")).unwrap_or_default();
    let mut used = BTreeMap::<String, BTreeSet<String>>::new();
    for line in noted.lines() {
        let (principal, action): (String, String) = serde_json::from_str(line).expect("a pair");
        // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, or arn:aws:iam::ACCOUNT:role/ROLE
        let role = principal.split('/').nth(1).unwrap_or_default().to_owned();
        // No action of AWS: the emulator's for SendMessage with several messages, see `deploy.py`.
        let action = action.replace("sqs:SendMessageBatch", "sqs:SendMessage");
        used.entry(role).or_default().insert(action);
    }
    used
}
