//! The profiles `demo` and `cluster`.

use botstats_common::io::clock;
use botstats_common::io::nats::jetstream;
use botstats_common::names::{
    BOT_THROTTLE_BUCKET, DIRECTORY_BUCKET, EVENTS_STREAM, THROTTLE_BUCKET,
};
use serde_json::{Value, json};

use super::clients::{
    RECEIVED, RECOVERY, all_applied, all_are_counted, answered, connect, counted,
};
use super::confined;
use super::stack::{Stack, id};
use botstats_tests::harness::{event, publish_stubbornly, until};

/// Events of the cluster's account before and after the kills.
const EVENTS: usize = 50;

/// Brings up the demo's traffic, takes the line from its log, and waits until there is more
/// traffic.
pub(super) async fn demo(stack: &Stack) -> String {
    stack.compose(&["--profile", "demo", "up", "-d", "--no-recreate", "demo"]).await;
    eprintln!("    waiting for the curl line in the demo's log");
    let token = until("a curl line in the demo's log", RECOVERY, async || {
        let demo = stack.containers("demo").await.into_iter().next()?;
        let log = stack.docker(&["logs", id(&demo)]).await;
        let (before, rest) = log.split_once("curl -H 'Authorization: Bearer ")?;
        let page = format!("http://127.0.0.1:{}/dashboard#", stack.http_port);
        assert!(before.contains(&page), "{log}");
        rest.split('\'').next().map(ToOwned::to_owned)
    })
    .await;
    let addresses = stack.addresses("query").await;
    let (_, answer) = answered(addresses[0], &token, RECEIVED).await;
    let first = answer.json();
    let bots: Vec<&Value> = first.as_array().into_iter().flatten().map(|r| &r["BotName"]).collect();
    assert!(bots.contains(&&json!("Pizza Palace")), "{first}");
    let before = counted(&first);
    let after = until("live traffic", RECOVERY, async || {
        let (_, answer) = answered(addresses[1], &token, RECEIVED).await;
        let now = counted(&answer.json());
        (now > before).then_some(now)
    })
    .await;
    let container = stack.container("demo").await;
    stack.docker(&["stop", id(&container)]).await;
    let ended = stack.docker(&["inspect", "-f", "{{.State.ExitCode}}", id(&container)]).await;
    assert_eq!(ended, "0", "the demo's exit code");
    stack.docker(&["rm", id(&container)]).await;
    format!("{before} messages at first, {after} a little later")
}

/// Brings up the cluster, kills a server that leads and an ingest, and compares with what was
/// published.
pub(super) async fn cluster(stack: &Stack) -> String {
    stack.down(false).await;
    let started = clock::monotonic();
    stack.compose(&["--profile", "cluster", "up", "-d", "cluster-query"]).await;
    let up = started.elapsed();
    stack.healthy("cluster-query", 2, RECOVERY).await;
    confined::check_all(stack).await;
    let operator = stack.password("cluster-nats-1", "operator").await;
    let operator = connect(stack.cluster_nats_port, "operator", operator).await;
    let js = jetstream(&operator, None);
    let buckets = [DIRECTORY_BUCKET, THROTTLE_BUCKET, BOT_THROTTLE_BUCKET].map(kv);
    for name in [EVENTS_STREAM.to_owned()].into_iter().chain(buckets) {
        let stream = js.get_stream(&name).await.expect("the stream");
        assert_eq!(stream.cached_info().config.num_replicas, 3, "{name}");
    }
    let added = stack.botstats("cluster-botstats", &["account", "add", "acme"]).await;
    let tokens = [added["token"].as_str().expect("a token").to_owned()];
    let publisher = stack.password("cluster-nats-1", "publisher").await;
    let publisher =
        jetstream(&connect(stack.cluster_nats_port, "publisher", publisher).await, None);
    let publish = async |from: usize| {
        for number in from..from + EVENTS {
            let place = ["acme", "bot1", "web"];
            let id = format!("cluster-{number}");
            let event = event(place, "message.received", clock::now_ms(), &id, &json!({}));
            publish_stubbornly(&publisher, &event, RECOVERY).await;
        }
    };
    publish(0).await;
    all_applied(&operator, 2).await;
    all_are_counted(stack, "cluster-query", &tokens, EVENTS).await;

    let mut stream = js.get_stream(EVENTS_STREAM).await.expect("the stream");
    let info = stream.info().await.expect("the stream's info");
    let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
    // This machine reaches the cluster through the first.
    let leader = leader.filter(|leader| leader != "cluster-nats-1");
    let killed = [leader.as_deref().unwrap_or("cluster-nats-2"), "cluster-ingest-1"];
    for name in killed {
        let container = stack.container(name).await;
        stack.docker(&["kill", id(&container)]).await;
    }
    publish(EVENTS).await;
    all_are_counted(stack, "cluster-query", &tokens, 2 * EVENTS).await;
    stack.compose(&["--profile", "cluster", "up", "-d", "--no-recreate", "cluster-query"]).await;
    all_applied(&operator, 2).await;
    all_are_counted(stack, "cluster-query", &tokens, 2 * EVENTS).await;
    format!(
        "up in {:.1} s; {} killed, {} events counted by who was left, and by all when they were back",
        up.as_secs_f64(),
        killed.join(" and "),
        2 * EVENTS
    )
}

fn kv(bucket: &str) -> String {
    format!("KV_{bucket}")
}
