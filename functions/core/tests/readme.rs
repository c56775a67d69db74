//! The README's table of providers is what the adapters say.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use reelhook_core::Provider;

const BEGIN: &str = "<!-- providers -->\n";
const END: &str = "<!-- /providers -->";

/// The table, as it has to stand between the two marks.
fn table() -> String {
    let mut table = String::from(
        "| provider | verified by | answer within | calls back | links live | asked after | confirmed | not confirmed |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for provider in Provider::ALL {
        let profile = provider.adapter().profile();
        let first = span(profile.first_poll.into());
        let interval = span(profile.poll_interval.into());
        let longest = span(profile.longest_poll_interval.into());
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {title} `{provider}` | {verified} | {budget} | {retries} | {life} | {first}, then every {interval} to \
             {longest}, up to {deadline} | {confirmed} | {doubts} |",
            title = profile.title,
            verified = profile.verified,
            budget = span(profile.answer_budget.into()),
            retries = profile.retries,
            life = span(profile.link_life),
            deadline = span(profile.deadline.into()),
            confirmed = profile.confirmed,
            doubts = profile.doubts,
        );
    }
    table
}

/// Seconds as people write them.
fn span(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    match seconds {
        _ if seconds % (24 * HOUR) == 0 && seconds > 48 * HOUR => format!("{} days", seconds / (24 * HOUR)),
        _ if seconds % HOUR == 0 => format!("{} h", seconds / HOUR),
        _ if seconds % 60 == 0 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[test]
fn the_table_of_providers_is_what_the_adapters_say() {
    let readme = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("there is a README.md");
    let found = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table.trim());
    let expected = table();
    assert!(
        found == Some(expected.trim()),
        "README.md has to have this between `{}` and `{END}`:\n\n{expected}",
        BEGIN.trim()
    );
}
