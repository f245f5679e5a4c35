//! Each rule, its edges, and the table in the manual.

use serde_json::{Value, json};

use super::*;
use crate::names::{BOT_THROTTLE_BUCKET, THROTTLE_BUCKET};

const WINDOW: Duration = Duration::from_secs(3_600);

#[test]
fn subjects_that_cover() {
    for (wide, narrow, expect) in [
        (">", EVENTS_SUBJECTS, true),
        ("botstats.>", EVENTS_SUBJECTS, true),
        ("botstats.events.>", EVENTS_SUBJECTS, true),
        ("botstats.events.*.*.*", EVENTS_SUBJECTS, true),
        ("botstats.*.*.*.*", EVENTS_SUBJECTS, true),
        ("*.events.*.*.>", EVENTS_SUBJECTS, true),
        ("*.*.*.*.*", EVENTS_SUBJECTS, true),
        ("botstats.events.*.*.*.>", EVENTS_SUBJECTS, false),
        ("botstats.events.*.*", EVENTS_SUBJECTS, false),
        ("botstats.events.acme.*.*", EVENTS_SUBJECTS, false),
        ("other.>", EVENTS_SUBJECTS, false),
        ("", EVENTS_SUBJECTS, false),
        ("$KV.b.>", "$KV.b.>", true),
        ("$KV.b.*", "$KV.b.>", false),
        ("$KV.>", "$KV.b.>", true),
    ] {
        assert_eq!(covers(wide, narrow), expect, "{wide} {narrow}");
    }
}

#[test]
fn transforms_that_keep_events() {
    let wildcards = "botstats.events.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}";
    for (src, dest, expect) in [
        ("old.events.*.*.*", wildcards, true),
        ("old.events.*.*.*", "elsewhere.>", true),
        ("botstats.events.*.*.*", "botstats.events.$1.$2.$3", true),
        ("botstats.events.*.*.*", "botstats.events.eu.{{wildcard(2)}}.x", true),
        ("botstats.events.acme.*.*", "archive.{{wildcard(1)}}.{{wildcard(2)}}", false),
        ("botstats.>", "archive.>", false),
        ("", "archive.>", false),
        (">", "copy.>", false),
    ] {
        let transform = Transform { src: src.to_owned(), dest: dest.to_owned() };
        assert_eq!(keeps_events(&transform, &KINDS[..1]), expect, "{src} {dest}");
    }
}

/// A stream as `setup` makes it, with other settings.
fn with(subjects: &str, other: &Value) -> StreamConfig {
    let mut config = json!({
        "name": "BOTSTATS_EVENTS", "subjects": [subjects], "retention": "limits", "storage": "file", "discard": "new",
        "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1, "max_consumers": -1,
        "max_msg_size": -1, "max_age": 0, "deny_delete": true, "num_replicas": 1,
    });
    for (name, value) in other.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

/// What is found in the stream of events, in the directory, and in the throttle.
fn found(other: &Value) -> [Vec<Finding>; 3] {
    let mut for_throttle = json!({"max_age": 3_600_000_000_000_i64});
    for (name, value) in other.as_object().unwrap() {
        for_throttle[name] = value.clone();
    }
    [
        events(&with(EVENTS_SUBJECTS, other)),
        directory(&with("$KV.botstats_directory.>", other)),
        calls(&with("$KV.botstats_throttle.>", &for_throttle), THROTTLE_BUCKET, WINDOW),
    ]
}

fn word(findings: &[Finding]) -> &'static str {
    match findings.iter().map(|finding| finding.severity).max() {
        None => "fine",
        Some(Severity::Warn) => "warn",
        Some(Severity::Refuse) => "refuse",
    }
}

const DAY_NS: i64 = 86_400_000_000_000;

/// Each setting of nats-server with the value that is judged; the table in the docs has a row
/// for each, in this order.
fn settings() -> Vec<(&'static str, Value)> {
    let more = ["botstats.events.>", "$KV.>", "old.events.>"];
    vec![
        ("subjects that lack ours", json!({"subjects": ["other.>"]})),
        ("subjects that hold more", json!({"subjects": more})),
        ("subjects that take requests, as botstats.> does", json!({"subjects": [">"]})),
        (
            "subjects of slots and the stream's control subject",
            json!({"subjects": ["botstats.slot.7.*.*.*", "botstats.cell.BOTSTATS_EVENTS"]}),
        ),
        (
            "subjects of slots without the control subject",
            json!({"subjects": ["botstats.slot.7.*.*.*", "botstats.cell.BOTSTATS_EVENTS_B"]}),
        ),
        ("mirror", json!({"subjects": [], "mirror": {"name": "X"}})),
        (
            "mirror with a filter or a start",
            json!({"subjects": [], "mirror": {"name": "X", "opt_start_seq": 9}}),
        ),
        ("sources", json!({"sources": [{"name": "X"}]})),
        (
            "subject_transform to another subject",
            json!({"subject_transform": {"src": ">", "dest": "copy.>"}}),
        ),
        ("retention interest, workqueue", json!({"retention": "interest"})),
        ("storage memory", json!({"storage": "memory"})),
        ("sealed", json!({"sealed": true})),
        ("no_ack", json!({"no_ack": true})),
        ("max_msg_size too small", json!({"max_msg_size": 500})),
        ("max_age", json!({"max_age": DAY_NS})),
        ("max_msgs, max_bytes with discard old", json!({"discard": "old", "max_bytes": 9})),
        ("max_msgs, max_bytes with discard new", json!({"max_msgs": 9, "max_bytes": 9})),
        ("max_msgs_per_subject", json!({"max_msgs_per_subject": 64})),
        (
            "discard_new_per_subject",
            json!({"max_msgs_per_subject": 8, "discard_new_per_subject": true}),
        ),
        ("deny_delete off", json!({"deny_delete": false})),
        ("allow_rollup_hdrs", json!({"allow_rollup_hdrs": true})),
        ("allow_msg_ttl", json!({"allow_msg_ttl": true})),
        ("subject_delete_marker_ttl", json!({"subject_delete_marker_ttl": DAY_NS})),
        ("allow_msg_schedules", json!({"allow_msg_schedules": true})),
        ("allow_msg_counter", json!({"allow_msg_counter": true})),
        ("persist_mode async", json!({"persist_mode": "async"})),
        ("max_consumers below 4", json!({"max_consumers": 3})),
        (
            "consumer_limits.inactive_threshold below 30s",
            json!({"consumer_limits": {"inactive_threshold": 29_000_000_000_i64}}),
        ),
        (
            "all others",
            json!({
                "description": "x", "num_replicas": 5, "duplicate_window": DAY_NS, "first_seq": 1_000,
                "compression": "s2", "placement": {"cluster": "c"}, "metadata": {"a": "b"},
                "republish": {"src": ">", "dest": "copy.>"}, "allow_direct": false,
                "mirror_direct": true, "deny_purge": true, "allow_atomic": false,
                "allow_batched": true, "consumer_limits": {"max_ack_pending": 1},
                "a_setting_of_tomorrow": {"x": 1},
            }),
        ),
    ]
}

#[test]
fn the_manual_has_the_same_rules() {
    let manual = include_str!("../../../docs/configuration.md");
    let (_, rules) = manual.split_once("### Rules for stream and buckets").unwrap();
    let (rules, _) = rules.split_once("\n### ").unwrap();
    let rows: Vec<Vec<String>> = rules
        .lines()
        .skip_while(|line| !line.starts_with("| setting"))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(2)
        .map(|row| row.split(" | ").take(4).map(|cell| cell.replace('`', "")).collect())
        .collect();
    let expected: Vec<Vec<String>> = settings()
        .into_iter()
        .map(|(name, other)| {
            let words = found(&other).map(|findings| word(&findings).to_owned());
            [vec![name.to_owned()], words.to_vec()].concat()
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn both_buckets_of_calls_have_the_same_rules() {
    for (name, other) in settings() {
        let mut config = json!({"max_age": 3_600_000_000_000_i64});
        for (name, value) in other.as_object().unwrap() {
            config[name] = value.clone();
        }
        let [of_accounts, of_bots] = [THROTTLE_BUCKET, BOT_THROTTLE_BUCKET]
            .map(|bucket| calls(&with(&format!("$KV.{bucket}.>"), &config), bucket, WINDOW));
        assert_eq!(word(&of_bots), word(&of_accounts), "{name}");
    }
    let another = with("$KV.botstats_throttle.>", &json!({"max_age": 3_600_000_000_000_i64}));
    let findings = calls(&another, BOT_THROTTLE_BUCKET, WINDOW);
    assert_eq!(word(&findings), "refuse", "another bucket's subjects");
}

#[test]
fn findings_name_their_setting_once() {
    for (name, other) in settings() {
        for findings in found(&other) {
            for Finding { setting, text, .. } in &findings {
                assert!(other.get(setting).is_some(), "{name}: {setting}: {text}");
            }
            assert!(findings.len() <= 1, "{name}: {findings:?}");
        }
    }
    assert_eq!(found(&json!({})), [vec![], vec![], vec![]], "as setup makes them");
}

#[test]
fn values_at_the_edge() {
    for (other, expect) in [
        (json!({"max_msg_size": 73_728}), ["fine"; 3]),
        (json!({"max_msg_size": 73_727}), ["refuse", "fine", "fine"]),
        (json!({"max_msg_size": 16_383}), ["refuse", "warn", "fine"]),
        (json!({"max_msg_size": 511}), ["refuse", "warn", "refuse"]),
        (json!({"max_msgs_per_subject": 1}), ["refuse", "fine", "fine"]),
        (json!({"max_consumers": 4}), ["fine"; 3]),
        (json!({"max_age": 3_600_000_000_000_i64}), ["warn", "refuse", "fine"]),
        (json!({"max_age": 0}), ["fine", "fine", "refuse"]),
        (json!({"retention": "workqueue"}), ["refuse"; 3]),
        (json!({"discard": "old"}), ["fine"; 3]),
        (json!({"discard": "old", "max_msgs": 1}), ["warn", "refuse", "refuse"]),
        (json!({"consumer_limits": {"inactive_threshold": 30_000_000_000_i64}}), ["fine"; 3]),
        (json!({"subjects": []}), ["refuse"; 3]),
        // Sources bring events without a subject of the stream's own; keys they do not.
        (json!({"subjects": [], "sources": [{"name": "X"}]}), ["fine", "refuse", "refuse"]),
        (
            json!({"subjects": [], "mirror": {"name": "X", "filter_subject": ">"}}),
            ["fine", "refuse", "refuse"],
        ),
    ] {
        let words = found(&other).map(|findings| word(&findings));
        assert_eq!(words, expect, "{other}");
    }
}

#[test]
fn streams_with_slots() {
    let (control, slot) = ("botstats.cell.BOTSTATS_EVENTS", "botstats.slot.7.*.*.*");
    let slots = json!({"botstats.slots": "7"});
    for (subjects, metadata, expect) in [
        (&[EVENTS_SUBJECTS, control, slot][..], json!({}), "fine"),
        (&[control, slot], json!({}), "fine"),
        // Made for a split that has not begun.
        (&[control], slots.clone(), "fine"),
        (&[control], json!({}), "fine"),
        (&["botstats.cell.*", slot], json!({}), "fine"),
        (&[slot], json!({}), "refuse"),
        (&[EVENTS_SUBJECTS], slots.clone(), "refuse"),
        (&[EVENTS_SUBJECTS, slot], json!({}), "refuse"),
        (&[], slots, "refuse"),
        (&[], json!({}), "refuse"),
    ] {
        let config = with("", &json!({"subjects": subjects, "metadata": metadata}));
        let findings = events(&config);
        assert_eq!(word(&findings), expect, "{subjects:?}: {findings:?}");
    }
    for (src, dest, expect) in [
        ("botstats.slot.*.*.*.*", "archive.>", "refuse"),
        ("botstats.cell.*", "archive.>", "refuse"),
        ("botstats.events.*.*.*", "archive.>", "refuse"),
        ("old.>", "archive.>", "fine"),
    ] {
        let transform = json!({"src": src, "dest": dest});
        let config = json!({"subjects": [control, slot], "subject_transform": transform});
        assert_eq!(word(&events(&with("", &config))), expect, "{src}");
    }
}
