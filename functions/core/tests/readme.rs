//! The tables of providers in `README.md` and `events/providers/README.md` are what the adapters say.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reelhook_core::Provider;
use reelhook_core::providers::adapter::Profile;

const BEGIN: &str = "<!-- providers -->\n";
const END: &str = "<!-- /providers -->";

/// A table with one row per provider.
fn table(columns: &[&str], row: impl Fn(&Profile) -> Vec<String>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut lines = vec![
        line(&columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>()),
        format!("|{}\n", "---|".repeat(columns.len())),
    ];
    for provider in Provider::ALL {
        let profile = provider.adapter().profile();
        let mut cells = vec![format!("{} `{provider}`", profile.title)];
        cells.extend(row(profile));
        lines.push(line(&cells));
    }
    lines.concat()
}

/// A duration as people write it.
fn span(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    match duration.as_secs() {
        seconds if seconds % (24 * HOUR) == 0 && seconds > 48 * HOUR => format!("{} days", seconds / (24 * HOUR)),
        seconds if seconds % HOUR == 0 => format!("{} h", seconds / HOUR),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

fn assert_has_table(file: &str, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = fs::read_to_string(path).expect("the file can be read");
    let found = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table.trim());
    assert!(found == Some(expected.trim()), "{file} needs this between `{}` and `{END}`:\n\n{expected}", BEGIN.trim());
}

#[test]
fn the_readme_has_the_figures_of_every_adapter() {
    let columns = ["provider", "verified by", "response timeout", "retries", "links live", "polled"];
    let table = table(&columns, |profile| {
        let [first, interval, max, deadline] =
            [profile.first_poll, profile.poll_interval, profile.max_poll_interval, profile.deadline].map(span);
        vec![
            profile.verified.to_owned(),
            span(profile.response_timeout),
            profile.retries.to_owned(),
            span(profile.link_life),
            format!("after {first}, then every {interval} to {max}, for {deadline}"),
        ]
    });
    assert_has_table("README.md", &table);
}

#[test]
fn the_readme_of_the_bodies_has_what_is_confirmed_of_every_provider() {
    let table = table(&["provider", "confirmed", "not confirmed"], |profile| {
        vec![profile.confirmed.to_owned(), profile.unconfirmed.to_owned()]
    });
    assert_has_table("events/providers/README.md", &table);
}
