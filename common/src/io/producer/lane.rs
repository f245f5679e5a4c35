//! Sends messages, and takes their acknowledgements over an inbox of its own.
//!
//! Each message has a reply subject of its own, the inbox with a number, so an answer says which
//! message it is about. The server need not answer in order: in a cluster a refusal overtakes the
//! acknowledgements of earlier messages.
//!
//! *Invariants*: a message has one judgement each time it is sent. An answer that comes after the
//! time limit is dropped: its message was sent again with another number.
//!
//! *Why* not the client library's requests: each costs the client a timer, a channel and an entry
//! in a table, which is more than the message itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::{Client, HeaderMap, SubscribeError, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::answer::{Judgement, judge};
use super::{Message, new_id};
use crate::io::clock::monotonic;
use crate::io::nats::{Violation, violation_of};

/// The longest wait for the next acknowledgement, and the longest time in which the client takes a
/// list of messages. The time is for silence: that no stream listens is an answer, which comes at
/// once.
const ACK_LIMIT: Duration = Duration::from_secs(10);

/// One of the publisher's ways to the server; it sends one list of messages after the other.
pub(super) struct Lane {
    client: Client,
    inbox: String,
    answers: Subscriber,
    opened: Instant,
    /// The number of messages that it has sent with a reply subject.
    sent: u64,
    /// The stream that acknowledged last.
    stream: Arc<str>,
}

impl Lane {
    /// Subscribes to a new inbox.
    pub(super) async fn open(client: &Client) -> Result<Self, SubscribeError> {
        let (client, inbox, opened) = (client.clone(), client.new_inbox(), monotonic());
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self { client, inbox, answers, opened, sent: 0, stream: Arc::from("") })
    }

    /// Sends each message on its own; returns a judgement for each.
    pub(super) async fn send(&mut self, messages: &[Message]) -> Vec<Judgement> {
        let (first, since) = (self.sent, monotonic());
        let mut judgements = Vec::with_capacity(messages.len());
        let sending = async {
            for message in messages {
                let (subject, payload) = (message.subject.clone(), message.payload.clone());
                let reply = self.next_reply();
                let published = self.client.publish_with_reply(subject, reply, payload).await;
                judgements.push(published.err().map(|error| not_sent(&error)));
            }
        };
        // The client takes only some messages while the connection is away.
        if timeout(ACK_LIMIT, sending).await.is_err() {
            judgements.resize(messages.len(), Some(no_answer()));
        }
        let subjects: Vec<&str> = messages.iter().map(|m| m.subject.as_str()).collect();
        self.wait(first, since, &subjects, judgements).await
    }

    /// Sends messages, at least one, as an atomic batch once. The server forgets a batch that it
    /// does not get whole.
    pub(super) async fn send_batch(&mut self, messages: &[Message]) -> Judgement {
        let Some((last, others)) = messages.split_last() else { return no_answer() };
        let (first, since) = (self.sent, monotonic());
        match timeout(ACK_LIMIT, self.send_parts(others, last)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return not_sent(&error),
            Err(_) => return no_answer(),
        }
        let judgements = self.wait(first, since, &[&last.subject], vec![None]).await;
        judgements.into_iter().next().unwrap_or_else(no_answer)
    }

    /// Sends the messages of an atomic batch; only the last one is acknowledged.
    async fn send_parts(&mut self, others: &[Message], last: &Message) -> Result<(), PublishError> {
        let id = new_id();
        for (number, message) in (1..).zip(others) {
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            let headers = batch_headers(&id, number);
            self.client.publish_with_headers(subject, headers, payload).await?;
        }
        let mut headers = batch_headers(&id, others.len() + 1);
        headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        let (subject, payload) = (last.subject.clone(), last.payload.clone());
        let reply = self.next_reply();
        self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
    }

    fn next_reply(&mut self) -> String {
        let reply = format!("{}.{}", self.inbox, self.sent);
        self.sent += 1;
        reply
    }

    /// Waits for the answers to the messages from number `first` on that have no judgement yet. The
    /// server does not answer a denied publish, so this waits for permission violations as well.
    async fn wait(
        &mut self,
        first: u64,
        since: Instant,
        subjects: &[&str],
        mut judgements: Vec<Option<Judgement>>,
    ) -> Vec<Judgement> {
        let mut missing = judgements.iter().filter(|judgement| judgement.is_none()).count();
        let mut denied: Vec<String> = Vec::new();
        // The server denies the subscription when the inbox is opened.
        let opened = self.opened;
        'denials: while missing > 0 {
            let known = denied.clone();
            let violation = violation_of(|violation, at| match violation {
                Violation::Publish(subject) => {
                    at >= since && subjects.contains(&subject.as_str()) && !known.contains(subject)
                }
                Violation::Subscribe { .. } => at >= opened,
            });
            tokio::pin!(violation);
            while missing > 0 {
                let answer = match self.answers.next().now_or_never() {
                    Some(answer) => answer,
                    None => tokio::select! {
                        answer = self.answers.next() => answer,
                        () = tokio::time::sleep(ACK_LIMIT) => break 'denials,
                        violation = &mut violation => {
                            let text = violation.to_string();
                            let Violation::Publish(subject) = violation else {
                                fill(&mut judgements, |_| true, &Judgement::NoInbox(text));
                                break 'denials;
                            };
                            let refused = Judgement::Refused(text);
                            let of_subject = |at: usize| subjects.get(at) == Some(&subject.as_str());
                            missing -= fill(&mut judgements, of_subject, &refused);
                            denied.push(subject);
                            continue 'denials;
                        }
                    },
                };
                // The connection is closed for good.
                let Some(answer) = answer else { break 'denials };
                let number = answer.subject.rsplit('.').next().and_then(|n| n.parse::<u64>().ok());
                let place = number.and_then(|number| number.checked_sub(first));
                let place = place.and_then(|place| usize::try_from(place).ok());
                if let Some(judgement @ None) = place.and_then(|place| judgements.get_mut(place)) {
                    *judgement = Some(judge(&answer, &mut self.stream));
                    missing -= 1;
                }
            }
        }
        judgements.into_iter().map(|judgement| judgement.unwrap_or_else(no_answer)).collect()
    }
}

/// Gives a judgement to the messages of those places that have none; returns their number.
fn fill(
    judgements: &mut [Option<Judgement>],
    wanted: impl Fn(usize) -> bool,
    with: &Judgement,
) -> usize {
    let missing = judgements.iter_mut().enumerate();
    let missing = missing.filter(|(at, judgement)| judgement.is_none() && wanted(*at));
    missing.map(|(_, judgement)| *judgement = Some(with.clone())).count()
}

fn no_answer() -> Judgement {
    Judgement::Again(format!("no answer for {} s", ACK_LIMIT.as_secs()))
}

/// The judgement of a message that the client did not send.
fn not_sent(error: &PublishError) -> Judgement {
    match error.kind() {
        PublishErrorKind::InvalidSubject | PublishErrorKind::MaxPayloadExceeded => {
            Judgement::Refused(error.to_string())
        }
        _ => Judgement::Again(error.to_string()),
    }
}

fn batch_headers(id: &str, number: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_BATCH_ID, id);
    headers.insert(NATS_BATCH_SEQUENCE, number.to_string());
    headers
}
