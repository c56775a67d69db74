//! The pages say what the code says: the generated tables of providers and metrics, every alarm of the template, the tests behind
//! each promise, and the files and functions that are named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reelhook_core::Provider;
use reelhook_core::metric::Metric;
use reelhook_core::providers::adapter::Profile;
use serde_json::Value;
use strum::VariantArray as _;

/// A table in Markdown.
fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut lines = vec![
        line(&columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>()),
        format!("|{}\n", "---|".repeat(columns.len())),
    ];
    lines.extend(rows.into_iter().map(|cells| line(&cells)));
    lines.concat()
}

/// One row per provider.
fn provider_rows(row: impl Fn(&Profile) -> Vec<String>) -> Vec<Vec<String>> {
    let row = |provider: Provider| {
        let profile = provider.adapter().profile();
        let mut cells = vec![format!("{} `{provider}`", profile.title)];
        cells.extend(row(profile));
        cells
    };
    Provider::ALL.map(row).into()
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

fn assert_has_table(file: &str, mark: &str, expected: &str) {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let text = read(file);
    let found = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(table, _)| table.trim());
    assert!(found == Some(expected.trim()), "{file} needs this between `{}` and `{end}`:\n\n{expected}", begin.trim());
}

#[test]
fn the_readme_has_the_figures_of_every_adapter() {
    let columns = ["provider", "verified by", "response timeout", "retries", "links live", "polled"];
    let rows = provider_rows(|profile| {
        let [first, max, deadline] = [profile.first_poll, profile.max_poll_interval, profile.deadline].map(span);
        let [verified, response_timeout, retries] = profile.callbacks.map_or_else(
            || ["sends no callbacks", "-", "-"].map(str::to_owned),
            |callbacks| [callbacks.verified.to_owned(), span(callbacks.response_timeout), callbacks.retries.to_owned()],
        );
        vec![
            verified,
            response_timeout,
            retries,
            span(profile.link_life),
            format!("after {first}, then at intervals of up to {max}, for {deadline}"),
        ]
    });
    assert_has_table("README.md", "providers", &table(&columns, rows));
}

#[test]
fn the_readme_says_what_every_provider_cancels_and_charges() {
    let columns = ["provider", "`DELETE` cancels a task", "a submission carries", "`usage` has"];
    let rows = provider_rows(|profile| {
        [profile.cancellable, profile.marker, profile.usage].map(|cell| cell.unwrap_or("-").to_owned()).into()
    });
    assert_has_table("README.md", "operations", &table(&columns, rows));
}

#[test]
fn the_readme_of_the_bodies_has_what_is_confirmed_of_every_provider() {
    let rows = provider_rows(|profile| vec![profile.confirmed.to_owned(), profile.unconfirmed.to_owned()]);
    let table = table(&["provider", "confirmed", "not confirmed"], rows);
    assert_has_table("events/providers/README.md", "providers", &table);
}

#[test]
fn the_operations_page_has_every_metric() {
    let rows = Metric::VARIANTS.iter().map(|metric| {
        let by_provider = if metric.by_provider() { "yes" } else { "" };
        [&format!("`{}`", metric.name()), metric.unit().name(), by_provider, metric.meaning()].map(str::to_owned).into()
    });
    assert_has_table("infra/OPERATIONS.md", "metrics", &table(&["metric", "unit", "by provider", "meaning"], rows));
}

/// The entries of a section of the template: name, default, description.
fn entries_of(template: &str, section: &str) -> Vec<[String; 3]> {
    let (_, rest) = template.split_once(&format!("\n{section}:\n")).expect("the section");
    let lines: Vec<&str> = rest.lines().take_while(|line| line.is_empty() || line.starts_with(' ')).collect();
    let mut entries: Vec<[String; 3]> = Vec::new();
    let mut is_folded = false;
    for line in lines {
        if let Some(name) = line.strip_prefix("  ").filter(|name| !name.starts_with([' ', '#'])) {
            entries.push([name.trim_end_matches(':').to_owned(), String::new(), String::new()]);
        }
        let Some([_, default, description]) = entries.last_mut() else { continue };
        if let Some(value) = line.strip_prefix("    Default: ") {
            value.trim_matches('"').clone_into(default);
        }
        if is_folded && line.starts_with("      ") {
            description.push_str(line.trim());
            description.push(' ');
        } else if let Some(text) = line.strip_prefix("    Description: ") {
            is_folded = text == ">-";
            description.push_str(text.trim_end_matches(">-"));
        } else {
            is_folded = false;
        }
    }
    entries.into_iter().map(|entry| entry.map(|text| text.trim().to_owned())).collect()
}

#[test]
fn the_operations_page_has_every_parameter_and_output() {
    let template = read("infra/template.yaml");
    let code = |name: &str| if name.is_empty() { String::new() } else { format!("`{name}`") };
    let (parameters, outputs) = (entries_of(&template, "Parameters"), entries_of(&template, "Outputs"));
    assert!(parameters.len() > 10 && outputs.len() > 5, "the template was not read");
    for [name, _, description] in parameters.iter().chain(&outputs) {
        assert!(description.ends_with('.'), "{name} is not described");
    }
    for [name, ..] in &parameters {
        let is_used =
            [format!("!Ref {name}\n"), format!("!Ref {name},"), format!("!Ref {name}]"), format!("!Ref {name} }}")];
        assert!(
            is_used.iter().any(|used| template.contains(used)) || template.contains(&format!("${{{name}}}")),
            "nothing depends on {name}"
        );
    }
    let rows =
        parameters.iter().map(|[name, default, description]| vec![code(name), code(default), description.clone()]);
    assert_has_table("infra/OPERATIONS.md", "parameters", &table(&["parameter", "default", "meaning"], rows));
    let rows = outputs.iter().map(|[name, _, description]| vec![code(name), description.clone()]);
    assert_has_table("infra/OPERATIONS.md", "outputs", &table(&["output", "value"], rows));
}

#[test]
fn the_operations_page_has_every_alarm() {
    let (template, page) = (read("infra/template.yaml"), read("infra/OPERATIONS.md"));
    let resources = template.split("\n\n");
    let alarms = resources.filter(|resource| resource.contains("Type: AWS::CloudWatch::Alarm"));
    let name = |alarm: &str| {
        assert!(
            alarm.contains("AlarmActions: [!If [OwnTopic, !Ref AlarmTopic, !Ref AlarmTopicArn]]"),
            "nobody is told: {alarm}"
        );
        if alarm.contains("Namespace: reelhook\n") {
            assert!(alarm.contains("{ Name: Stack, Value: !Ref AWS::StackName }"), "of every stack: {alarm}");
            let metric = alarm.split_once("MetricName: ").and_then(|(_, rest)| rest.lines().next()).unwrap_or_default();
            assert!(Metric::VARIANTS.iter().any(|known| known.name() == metric), "nobody writes {metric}");
        }
        let line = alarm.lines().find(|line| !line.trim().starts_with('#')).unwrap_or_default();
        line.trim().trim_end_matches(':').to_owned()
    };
    let alarms: BTreeSet<String> = alarms.map(name).collect();
    let (_, chapter) = page.split_once("\n## Alarms\n").expect("the chapter");
    let chapter = chapter.split("\n## ").next().expect("a chapter has text");
    let headings = chapter.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    assert_eq!(headings.map(str::to_owned).collect::<BTreeSet<_>>(), alarms);
}

/// Nothing here draws the dashboard, so what can be known without that: it is JSON, its widgets stand beside each other, and each
/// metric of ours in it is one that the functions write with these dimensions. What they write by provider, it tells apart.
#[test]
fn the_dashboard_has_what_is_written() {
    let template = read("infra/template.yaml");
    let (_, body) = template.split_once("DashboardBody: !Sub |-\n").expect("the dashboard");
    let body: String = body.lines().take_while(|line| line.starts_with("        ")).collect();
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let widgets = body["widgets"].as_array().expect("widgets");
    let mut cells = BTreeSet::new();
    let (mut drawn, mut told_apart) = (BTreeSet::new(), BTreeSet::new());
    for widget in widgets {
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| widget[name].as_u64().expect("a number"));
        assert!(x + width <= 24, "it is wider than the dashboard: {widget}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "it covers another one: {widget}");
        }
        let properties = &widget["properties"];
        assert!(properties["title"].is_string() && properties["region"] == "${AWS::Region}", "{widget}");
        for metric in properties["metrics"].as_array().expect("metrics") {
            if let Some(search) = metric[0]["expression"].as_str() {
                let name = search.split('"').nth(1).expect("a name");
                let expected = format!(
                    r#"SEARCH('{{reelhook,Stack,Provider}} MetricName="{name}" Stack="${{AWS::StackName}}"', 'Sum', 300)"#
                );
                assert_eq!(search, expected);
                told_apart.insert(name);
            } else if metric[0] == "reelhook" {
                assert_eq!([&metric[2], &metric[3]], ["Stack", "${AWS::StackName}"], "of every stack: {metric}");
                drawn.insert(metric[1].as_str().expect("a name"));
            } else {
                assert_eq!([&metric[0], &metric[2]], ["AWS/SQS", "QueueName"], "{metric}");
            }
        }
    }
    let by_provider = Metric::VARIANTS.iter().filter(|metric| metric.by_provider());
    assert_eq!(told_apart, by_provider.map(|metric| metric.name()).collect());
    for name in drawn {
        assert!(Metric::VARIANTS.iter().any(|known| known.name() == name), "nobody writes {name}");
    }
    assert!(widgets.len() >= 8, "{widgets:?}");
}

/// Each row of the table of outages is tested, and each of these tests has its row.
#[test]
fn the_operations_page_has_every_outage() {
    let (tests, page) = (read("tests/crash/tests/outages.rs"), read("infra/OPERATIONS.md"));
    let name = |test: &str| Some(test.split_once("async fn ")?.1.split_once('(')?.0.to_owned());
    let tested: BTreeSet<String> = tests.split("#[tokio::test").skip(1).filter_map(name).collect();
    let (_, chapter) = page.split_once("\n## Outages\n").expect("the chapter");
    let chapter = chapter.split("\n## ").next().expect("a chapter has text");
    let row = |row: &str| Some(row.strip_suffix("` |")?.rsplit_once('`')?.1.to_owned());
    let stated: BTreeSet<String> = chapter.lines().filter_map(row).collect();
    assert!(tested.len() > 10, "{tested:?}");
    assert_eq!(stated, tested);
}

/// The names of all functions in the sources below a folder.
fn functions_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            functions_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("the source can be read");
            let names_of = |rest: &str| Some(rest.split_once(['(', '<'])?.0.to_owned());
            names.extend(source.split("fn ").skip(1).filter_map(names_of));
        }
    }
}

fn all_functions() -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    for folder in ["functions", "infra", "tests"] {
        functions_below(&root().join(folder), &mut functions);
    }
    functions
}

/// What stands in backticks in a text, code blocks left out.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect()
}

/// A renamed test has to be renamed in the README too.
#[test]
fn every_promise_names_tests_that_exist() {
    let functions = all_functions();
    let readme = read("README.md");
    let is_promise = |line: &&str| {
        line.strip_prefix("| P").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let promises: Vec<&str> = readme.lines().filter(is_promise).collect();
    assert_eq!(promises.len(), 8);
    for promise in promises {
        let tests = promise.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names = quoted(tests);
        assert!(!names.is_empty(), "no test is named: {promise}");
        for name in names {
            let function = name.rsplit("::").next().unwrap_or(name);
            assert!(functions.contains(function), "there is no test {name}");
        }
    }
}

/// A renamed file or function has to be renamed in the pages too.
#[test]
fn the_pages_name_files_and_functions_that_exist() {
    let functions = all_functions();
    for (page, folder) in [
        ("functions/ARCHITECTURE.md", "functions"),
        ("functions/PERFORMANCE.md", "."),
        ("infra/OPERATIONS.md", "."),
        ("CONTRIBUTING.md", "."),
        ("README.md", "."),
    ] {
        let text = read(page);
        for name in quoted(&text) {
            // A placeholder for the provider that a contributor adds.
            if name.contains("example") {
                continue;
            }
            let is_file = Path::new(name).extension().is_some_and(|extension| extension == "rs" || extension == "md");
            let is_path = is_file && name.contains('/');
            assert!(!is_path || root().join(folder).join(name).is_file(), "{page} names {name}, which does not exist");
            let is_word = |part: &str| part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if let Some((module, function)) = name.rsplit_once("::")
                && is_word(function)
                && module.split("::").all(is_word)
                && function.starts_with(|letter: char| letter.is_ascii_lowercase())
            {
                assert!(functions.contains(function), "{page} names {name}, and there is no such function");
            }
        }
    }
}
