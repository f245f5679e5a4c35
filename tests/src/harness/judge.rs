//! What ingest says of the messages, compared with the model.

use botstats_common::names::DEAD_LETTERS_SUBJECT;
use botstats_common::status::{DeadLettersReply, DeadLettersRequest};

use super::{PATIENCE, Site};
use crate::model::{Model, Rule, Verdict};

/// Dead letters asked for at a time.
const LETTERS: u32 = 300;

/// Waits until everything is applied, and checks what became of how many messages.
pub async fn check_counts(site: &Site, model: &Model) {
    let status = site.applied(PATIENCE).await;
    let count = |verdict| u64::try_from(model.count(verdict)).expect("a count");
    let letters = Rule::ALL.map(|rule| (rule.name(), count(Verdict::DeadLetter(rule))));
    let events = [
        ("accepted", count(Verdict::Accepted)),
        ("duplicate", count(Verdict::Duplicate)),
        ("conflict", count(Verdict::Conflict)),
        ("unknown_type", count(Verdict::UnknownType)),
        ("dead_letter", letters.iter().map(|(_, number)| number).sum()),
    ];
    for (name, wanted) in events {
        let got = status.events.get(name).copied().unwrap_or_default();
        assert_eq!(got, wanted, "{name} in {status:?}");
    }
    for (rule, wanted) in letters {
        let got = status.dead_letters.get(rule).copied().unwrap_or_default();
        assert_eq!(got, wanted, "{rule} in {status:?}");
    }
}

/// Checks that the dead letters are the model's, each once, newest first.
pub async fn check_dead_letters(site: &Site, model: &Model) {
    let name_of = |verdict: &Verdict| match verdict {
        Verdict::DeadLetter(rule) => Some(rule.name()),
        _ => None,
    };
    let wanted = model.verdicts.iter().rev();
    let wanted: Vec<(u64, &str)> =
        wanted.filter_map(|(sequence, verdict)| Some((*sequence, name_of(verdict)?))).collect();
    let mut got: Vec<(u64, String)> = Vec::new();
    loop {
        let before = got.last().map(|(sequence, _)| *sequence);
        let request = DeadLettersRequest { before, limit: LETTERS, ..Default::default() };
        let request = serde_json::to_vec(&request).expect("JSON");
        let answer = site.client.request(DEAD_LETTERS_SUBJECT, request.into()).await;
        let answer = answer.expect("an answer about dead letters");
        let reply: DeadLettersReply = serde_json::from_slice(&answer.payload).expect("a reply");
        assert_eq!(reply.kept, u64::try_from(wanted.len()).expect("a length"));
        if reply.letters.is_empty() {
            break;
        }
        assert!(reply.letters.iter().all(|letter| !letter.reason.is_empty()));
        got.extend(reply.letters.into_iter().map(|letter| (letter.sequence, letter.rule)));
    }
    let got: Vec<(u64, &str)> = got.iter().map(|(s, rule)| (*s, rule.as_str())).collect();
    assert_eq!(got, wanted);
}
