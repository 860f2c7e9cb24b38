//! CloudEvents SQL: what an expression costs for one event, in CPU time.

mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use meshbus::core::cesql::{Expression, Expressions};
use meshbus::core::consumer::Overflow;
use meshbus::core::record::Record;
use meshbus::core::selector::Selector;
use meshbus::core::subscription::{Message, Start};
use meshbus::core::view::View;
use meshbus::core::{Bus, BusOptions, Envelope, Topic};
use support::{Args, Failure, Report, Samples, cpu};

/// Members of the data, which together are a kilobyte.
const MEMBERS: usize = 40;
/// Five clauses, all of which hold.
const FIVE: &str = "type = 'dev.meshbus.resource.modified.v1' AND reason IN ('Failed', 'BackOff') \
                    AND eventcount > 2 AND namespace != 'kube-system' AND name LIKE 'web-%'";

fn main() -> ExitCode {
    support::main("cesql", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let event = event()?;
    report.said("data", format!("{} bytes, {MEMBERS} members", event.data.len()));
    let cases = [
        ("five clauses on attributes", vec![FIVE.to_owned()], Some(200.0)),
        ("a field in the first half of the data", vec![field(MEMBERS / 4)], Some(1000.0)),
        ("the last field of the data", vec![field(MEMBERS - 1)], Some(3000.0)),
    ];
    for (name, texts, gate) in cases {
        let Some(samples) = figure(&args, name, &event, &texts)? else { continue };
        match gate {
            Some(gate) => report.gated(name, &samples, " ns", gate),
            None => report.noted(name, &samples, " ns"),
        }
    }
    ten(&args, &mut report, &event)?;
    shared(&args, &mut report, event)?;
    Ok(report.finish())
}

/// An event such as a change of a pod, with a kilobyte of data.
fn event() -> Result<Envelope, Failure> {
    let topic: Topic = "pods/web/web-1".parse()?;
    let mut event = Envelope::event(topic, "1", "//east", "dev.meshbus.resource.modified.v1");
    event.subject = Some("web/web-1".into());
    event.datacontenttype = Some("application/json".into());
    for (name, value) in [("reason", "BackOff"), ("namespace", "web"), ("name", "web-1"), ("kind", "Pod")] {
        event.extensions.set(name, value);
    }
    event.extensions.set("eventcount", 3);
    let members: Vec<String> = (0..MEMBERS)
        .map(|n| match n % 4 {
            0 => format!("\"field{n}\": \"value {n} of the pod\""),
            1 => format!("\"field{n}\": {}", n * 100_003),
            2 => format!("\"field{n}\": {{\"ready\": true}}"),
            _ => format!("\"field{n}\": \"some text {n}\""),
        })
        .collect();
    event.data = format!("{{{}}}", members.join(", ")).into();
    Ok(event)
}

/// A clause on one member.
fn field(n: usize) -> String {
    match n % 4 {
        0 => format!("data.field{n} = 'value {n} of the pod'"),
        1 => format!("data.field{n} > {}", n * 1000),
        2 => format!("data.field{n}.ready"),
        _ => format!("data.field{n} = 'some text {n}'"),
    }
}

fn compiled(texts: &[String]) -> Result<Vec<Expression>, Failure> {
    Ok(texts.iter().map(|text| Expression::filter(text)).collect::<Result<_, _>>()?)
}

/// CPU nanoseconds for all expressions on one event that nobody looked at before.
fn cost(event: &Envelope, expressions: &[Expression], times: usize) -> Result<f64, Failure> {
    let before = cpu();
    for _ in 0..times {
        let view = View::of(black_box(event));
        for expression in expressions {
            if expression.wants(&view) != Ok(true) {
                return Err(format!("{expression:?} is not true").into());
            }
        }
    }
    Ok((cpu() - before) / times as f64)
}

fn figure(args: &Args, name: &str, event: &Envelope, texts: &[String]) -> Result<Option<Samples>, Failure> {
    if !args.wants(name) {
        return Ok(None);
    }
    let (expressions, times) = (compiled(texts)?, args.size(500_000, 100));
    cost(event, &expressions, times / 10)?;
    let mut samples = Samples::default();
    for _ in 0..args.rounds {
        samples.push(cost(event, &expressions, times)?);
    }
    Ok(Some(samples))
}

/// Ten routes, each with a clause on another field, against one of them.
fn ten(args: &Args, report: &mut Report, event: &Envelope) -> Result<(), Failure> {
    let name = "ten clauses on one event to one";
    if !args.wants(name) {
        return Ok(());
    }
    let texts: Vec<String> = (0..10).map(|n| field(n * MEMBERS / 10 + 3)).collect();
    let (all, one) = (compiled(&texts)?, compiled(texts.get(5..6).unwrap_or_default())?);
    let times = args.size(200_000, 100);
    let (mut ratio, mut costs) = (Samples::default(), [Samples::default(), Samples::default()]);
    for _ in 0..args.rounds {
        let [one, all] = [cost(event, &one, times)?, cost(event, &all, times)?];
        ratio.push(all / one);
        for (samples, cost) in costs.iter_mut().zip([one, all]) {
            samples.push(cost);
        }
    }
    report.gated(name, &ratio, "×", 1.5);
    let [one, all] = &costs;
    report.noted("  one clause", one, " ns");
    report.noted("  ten clauses", all, " ns");
    Ok(())
}

/// The expressions of 10,000 routes on one record, of which 100 differ: shared, and each on its own.
fn shared(args: &Args, report: &mut Report, event: Envelope) -> Result<(), Failure> {
    let name = "10,000 routes with 100 expressions, shared";
    if !args.wants(name) {
        return Ok(());
    }
    let routes = args.size(10_000, 200);
    let text = |n: usize| format!("{FIVE} AND eventcount < {}", n % 100 + 10);
    let own = compiled(&(0..routes).map(text).collect::<Vec<_>>())?;
    let (mut same, mut expressions) = (own.clone(), Expressions::new());
    for expression in &mut same {
        expressions.share(expression);
    }
    let (mut together, mut alone) = (Samples::default(), Samples::default());
    for _ in 0..args.rounds {
        for (all, samples) in [(&same, &mut together), (&own, &mut alone)] {
            let records = records(&event, args.size(64, 1))?;
            let before = cpu();
            for record in &records {
                for expression in all {
                    // A route makes its own view.
                    black_box(expression.wants(&View::of_record(record)).is_ok());
                }
            }
            samples.push((cpu() - before) / (records.len() * routes) as f64);
        }
    }
    report.noted(name, &together, " ns/route");
    report.noted("  each route its own", &alone, " ns/route");
    Ok(())
}

/// Fresh records of the event.
fn records(event: &Envelope, count: usize) -> Result<Vec<Arc<Record>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bus = Bus::new(BusOptions::default());
        let subscribed = bus.subscribe(Selector::default(), Start::Now, 4 * count, Overflow::Block);
        let mut subscription = subscribed.map_err(|gone| format!("{gone:?}"))?;
        for receipt in bus.publish(vec![event.clone(); count]).await {
            receipt.stored().map_err(ToString::to_string)?;
        }
        let mut records = Vec::new();
        while records.len() < count {
            let Some(Message::Batch(batch)) = subscription.next().await else {
                return Err("the subscription ended".into());
            };
            records.extend(batch.iter().cloned());
        }
        Ok(records)
    })
}
