//! From a request to its answer, with what goes wrong on the way.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::chaos::Fault;
use super::form::Form;
use super::kinds::{self, Kind, NAMESPACE, Target};
use super::list::Query;
use super::patch::json_or_yaml;
use super::serve::Breaker;
use super::status::Refusal;
use super::store;
use super::watch::{Begin, LINES_MAX};
use super::write::{Call, Written};
use super::{Shared, discovery};

/// What is sent back; an error in it breaks the connection off.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Longest body of a request.
const BODY_MAX: usize = 3 * 1024 * 1024;
/// What bodies of objects may be.
const OBJECTS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A request that was read.
#[derive(Debug)]
struct Asked {
    method: Method,
    target: Target,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer but a watch.
struct Answer {
    code: u16,
    media_type: String,
    retry_after: Option<u64>,
    body: Bytes,
}

/// Answers a request, or resets its connection and never does.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    breaker: Breaker,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = query_of(parts.uri.query().unwrap_or_default());
    let kinds = shared.state.lock().kinds.clone();
    let target = kinds::target(&kinds, &path, shared.options.events_v1);
    let watch = parts.method == Method::GET
        && (query.get("watch").is_some_and(|watch| watch == "true" || watch == "1")
            || target.as_ref().is_some_and(|target| target.watch));
    let user_agent = text(&parts.headers, header::USER_AGENT.as_str()).to_owned();
    shared.state.lock().log(store::Request {
        method: parts.method.to_string(),
        path: path.clone(),
        query: query.clone(),
        user_agent,
        watch,
    });
    if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return whole(&shared, Answer::text(200, "ok"));
    }
    if let Err(refusal) = authenticate(&shared, &parts.headers) {
        return whole(&shared, refusal.into());
    }
    if let Some(refusal) = misfortune(&shared, &breaker).await {
        return whole(&shared, refusal.into());
    }
    let Some(target) = target else {
        let found = discovery::answer(&kinds, &shared.options, &path, text(&parts.headers, "accept"));
        return whole(&shared, found.map_or_else(|| Refusal::path_not_found().into(), Answer::discovery));
    };
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        let message = format!("Request entity too large: limit is {BODY_MAX}");
        return whole(&shared, Refusal::new(413, "RequestEntityTooLarge", message).into());
    };
    let body = body.to_bytes();
    let asked = Asked { method: parts.method, target, query, headers: parts.headers, body };
    if watch {
        return begin_watch(&shared, &asked).await;
    }
    let timed_out = shared.chaos.strikes(Fault::GatewayTimeout);
    if timed_out && (asked.method == Method::GET || shared.chaos.coin()) {
        return whole(&shared, timeout().into());
    }
    let answer = perform(&shared, &asked, &kinds).await.unwrap_or_else(Answer::from);
    if timed_out {
        return whole(&shared, timeout().into());
    }
    if asked.method != Method::GET && answer.code < 300 && shared.chaos.strikes(Fault::AnswerLost) {
        breaker.reset().await;
    }
    whole(&shared, answer)
}

/// What stops a request before anything is done.
async fn misfortune(shared: &Arc<Shared>, breaker: &Breaker) -> Option<Refusal> {
    let chaos = &shared.chaos;
    if chaos.strikes(Fault::Restart) {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { shared.restart().await });
        breaker.reset().await;
    }
    if chaos.strikes(Fault::Reset) {
        breaker.reset().await;
    }
    let seconds = shared.options.retry_after;
    if chaos.strikes(Fault::TooManyRequests) {
        let text = "Too many requests, please try again later.";
        let refusal = Refusal::plain(429, "Too many requests, please try again later.\n");
        let structured = || {
            let details = json!({ "retryAfterSeconds": seconds });
            Refusal::new(429, "TooManyRequests", text).details(details)
        };
        return Some(if chaos.coin() { refusal } else { structured() }.retry_after(seconds));
    }
    chaos.strikes(Fault::Unavailable).then(|| {
        let message = "the server is currently unable to handle the request";
        Refusal::new(503, "ServiceUnavailable", message)
    })
}

fn timeout() -> Refusal {
    let message = "Timeout: request did not complete within the allotted timeout";
    Refusal::new(504, "Timeout", message).details(json!({}))
}

async fn begin_watch(shared: &Arc<Shared>, asked: &Asked) -> Response<Body> {
    let form = match Form::negotiate(&asked.target, text(&asked.headers, "accept")) {
        Ok(form) => form,
        Err(refusal) => return whole(shared, refusal.into()),
    };
    let begin = match Begin::check(shared, &asked.target, &asked.query, form).await {
        Ok(begin) => begin,
        Err(refusal) => return whole(shared, refusal.into()),
    };
    let (lines, body) = streamed();
    if begin.resumes() && shared.chaos.strikes(Fault::GoneAtStart) {
        let floor = shared.forget();
        return whole(shared, Refusal::watch_too_old(0, floor, false).into());
    }
    if begin.resumes() && shared.chaos.strikes(Fault::EmptyWatch) {
        shared.forget();
        drop(lines);
    } else {
        tokio::spawn(begin.run(Arc::clone(shared), lines));
    }
    respond(200, "application/json", None, body)
}

async fn perform(shared: &Shared, asked: &Asked, kinds: &[Kind]) -> Result<Answer, Refusal> {
    let Asked { method, target, query, headers, body } = asked;
    let form = Form::negotiate(target, text(headers, "accept"))?;
    let call = call_of(asked);
    let media_type = text(headers, "content-type").split(';').next().unwrap_or_default().trim();
    match (method.as_str(), &target.name) {
        ("GET", Some(_)) => Ok(Answer::json(200, &shared.get(target, form)?)),
        ("GET", None) => Ok(Answer::json(200, &shared.list(target, query, form).await?)),
        ("POST", None) => {
            let object = object_of(&kinds[target.kind], media_type, body)?;
            if kinds[target.kind].namespaced && target.namespace.is_none() {
                return Err(Refusal::method_not_allowed());
            }
            Ok(written(form, target, shared.create(target, object, &call)?))
        }
        ("PUT", Some(_)) => {
            let object = object_of(&kinds[target.kind], media_type, body)?;
            Ok(written(form, target, shared.replace(target, object, &call)?))
        }
        ("PATCH", Some(_)) => Ok(written(form, target, shared.patch(target, media_type, body, &call)?)),
        ("DELETE", Some(name)) if target.subresource.is_none() => {
            let (object, gone) = shared.delete(target, &options_of(body)?, &call)?;
            let kind = &kinds[target.kind];
            if !gone || kind.kind == "Pod" {
                return Ok(Answer::json(200, &form.object(target.kind, &object)));
            }
            let mut details = json!({ "name": name });
            let group = if target.events_v1 { kinds::EVENTS_GROUP } else { kind.group.as_str() };
            if !group.is_empty() {
                details["group"] = group.into();
            }
            details["kind"] = kind.plural.as_str().into();
            details["uid"] = object["metadata"]["uid"].clone();
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            Ok(Answer::json(200, &status))
        }
        ("DELETE", None) if target.kind != NAMESPACE => {
            let selector = shared.selector(target, query)?;
            let gone = shared.delete_collection(target, &selector, &call);
            let rv = shared.state.lock().rv(target.kind).to_string();
            let metadata = json!({ "resourceVersion": rv });
            let items = gone.iter().map(AsRef::as_ref);
            Ok(Answer::json(200, &form.list(kinds, target.kind, metadata, items)))
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn written(form: Form, target: &Target, (object, created): Written) -> Answer {
    Answer::json(if created { 201 } else { 200 }, &form.object(target.kind, &object))
}

/// Who writes: the field manager it names, or else the program it says it is. Apply must name one.
fn call_of(asked: &Asked) -> Call {
    let option = |name: &str| asked.query.get(name).map(String::as_str).unwrap_or_default();
    let applies = text(&asked.headers, "content-type").starts_with("application/apply-patch");
    let program = text(&asked.headers, "user-agent").split('/').next().unwrap_or_default();
    let named = option("fieldManager");
    let author = if named.is_empty() && !applies { program } else { named };
    let dry_body = asked.method == Method::DELETE
        && options_of(&asked.body).is_ok_and(|options| options["dryRun"][0] == "All");
    Call {
        author: author.to_owned(),
        dry_run: option("dryRun") == "All" || dry_body,
        force: option("force") == "true",
        by_client: true,
    }
}

fn object_of(kind: &Kind, media_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let parsed = match media_type {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| {
            if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
        }),
        "application/yaml" => json_or_yaml(body).ok_or_else(|| "not YAML of an object".to_owned()),
        _ => return Err(Refusal::media_type(OBJECTS)),
    };
    parsed.map_err(|what| {
        Refusal::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse \
             error: {what} ({})",
            kind.kind,
            String::from_utf8_lossy(body)
        ))
    })
}

fn options_of(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    json_or_yaml(body).ok_or_else(|| Refusal::bad_request("couldn't get version/kind; json parse error"))
}

fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let given = text(headers, "authorization").strip_prefix("Bearer ");
    match &shared.options.token {
        Some(token) if given != Some(token.as_str()) => {
            Err(Refusal::new(401, "Unauthorized", "Unauthorized"))
        }
        _ => Ok(()),
    }
}

fn query_of(text: &str) -> Query {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The whole answer, at once or drop by drop.
fn whole(shared: &Arc<Shared>, answer: Answer) -> Response<Body> {
    let Answer { code, media_type, retry_after, body } = answer;
    if !shared.chaos.strikes(Fault::Trickle) {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        return respond(code, &media_type, retry_after, body);
    }
    let (pieces, streamed) = streamed();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        for piece in shared.pieces(&body) {
            if pieces.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
            tokio::time::sleep(shared.chaos.time(Duration::ZERO, Duration::from_millis(2))).await;
        }
    });
    respond(code, &media_type, retry_after, streamed)
}

fn streamed() -> (mpsc::Sender<Result<Frame<Bytes>, io::Error>>, Body) {
    let (lines, mut received) = mpsc::channel(LINES_MAX);
    let mut cut = None;
    let next = move |context: &mut Context<'_>| {
        if let Some(cut) = cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        match ready!(received.poll_recv(context)) {
            // The server writes out what it has when the body is not ready, and forgets it when the body fails.
            Some(Err(error)) => {
                cut = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    };
    (lines, StreamBody::new(stream::poll_fn(next)).boxed_unsync())
}

fn respond(code: u16, media_type: &str, retry_after: Option<u64>, body: Body) -> Response<Body> {
    let mut response = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CACHE_CONTROL, "no-cache, private");
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    response.body(body).expect("the server's own headers are valid")
}

impl Answer {
    fn json(code: u16, body: &Value) -> Self {
        let media_type = "application/json".to_owned();
        Self { code, media_type, retry_after: None, body: Bytes::from(body.to_string()) }
    }

    fn text(code: u16, text: &'static str) -> Self {
        let media_type = "text/plain; charset=utf-8".to_owned();
        Self { code, media_type, retry_after: None, body: Bytes::from_static(text.as_bytes()) }
    }

    fn discovery((media_type, body): (String, Value)) -> Self {
        Self { media_type, ..Self::json(200, &body) }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let answer = match refusal.plain {
            Some(plain) => Self::text(refusal.code, plain),
            None => Self::json(refusal.code, &refusal.body),
        };
        Self { retry_after: refusal.retry_after, ..answer }
    }
}
