use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::error::chain;
use crate::router::Tier;

fn client() -> Client {
    Client::new(&net::Network::default())
}

/// Answers one request with `response` and returns its head and body.
async fn serve_once(response: String) -> (String, JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = read_request(&mut stream).await;
        stream.write_all(response.as_bytes()).await.unwrap();
        stream.shutdown().await.ok();
        asked
    });
    (host, served)
}

async fn read_request(stream: &mut TcpStream) -> (String, Value) {
    let mut received = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        received.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_owned(), body);
        }
        assert_ne!(read, 0, "the request broke off");
    }
}

fn reply(headers: &str, text: &str) -> String {
    let body =
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]});
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn classifier(host: &str) -> LocalClassifier {
    LocalClassifier::new(client(), host, &"gemma3-1b-gpu-custom".parse().unwrap(), DEADLINE).unwrap()
}

async fn error_for(response: String) -> String {
    let (host, _) = serve_once(response).await;
    chain(&classifier(&host).classify("hi", &[]).await.unwrap_err())
}

#[tokio::test]
async fn the_model_is_asked_as_gemini_cli_asks_it() {
    let (host, served) = serve_once(reply("", r#"{"reasoning": "broad", "model_choice": "pro"}"#)).await;
    let answer = classifier(&format!("{host}/")).classify("clean up", &[]).await.unwrap();
    assert_eq!(answer.verdict.tier, Tier::Pro);
    assert_eq!(answer.verdict.reasoning, "broad");
    assert_eq!(answer.verdict.probability, None);
    assert_eq!(answer.answered_by, AnsweredBy::Model);
    let (head, body) = served.await.unwrap();
    assert!(
        head.starts_with("POST /v1beta/models/gemma3-1b-gpu-custom:generateContent "),
        "{head}"
    );
    assert!(head.to_ascii_lowercase().contains("content-length: "), "{head}");
    assert_eq!(body, Prompt::new("clean up", &[]).body());
}

#[tokio::test]
async fn the_gateway_says_who_answered() {
    let text = r#"{"reasoning": "x", "model_choice": "flash"}"#;
    for (header, who) in [
        ("x-gem-answered-by: builtin\r\n", AnsweredBy::Builtin),
        ("x-gem-answered-by: cache\r\n", AnsweredBy::Cache),
        ("x-gem-answered-by: model\r\n", AnsweredBy::Model),
    ] {
        let (host, _) = serve_once(reply(header, text)).await;
        assert_eq!(classifier(&host).classify("hi", &[]).await.unwrap().answered_by, who);
    }
}

#[tokio::test]
async fn an_answer_without_a_choice_is_refused() {
    for text in [
        "",
        "Pro or flash, hard to say.",
        r#"{"reasoning": "x"}"#,
        r#"{"reasoning": "x", "model_choice": "ultra"}"#,
    ] {
        let error = error_for(reply("", text)).await;
        assert!(error.contains("not usable"), "{error}");
    }
    let no_candidate = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"candidates\":[]}";
    assert!(error_for(no_candidate.to_owned()).await.contains("no candidate"));
}

#[tokio::test]
async fn an_error_status_is_named() {
    let error = error_for("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    assert!(error.contains("500"), "{error}");
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_the_end() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LONGEST_REPLY + 1));
    assert!(error_for(endless).await.contains("longer than"));
}

#[tokio::test]
async fn a_missing_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = chain(&classifier(&host).classify("hi", &[]).await.unwrap_err());
    assert!(error.contains(&host), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let model = "m".parse().unwrap();
    let classifier = LocalClassifier::new(client(), &host, &model, Duration::from_millis(50)).unwrap();
    let error = classifier.classify("hi", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
}

#[test]
fn a_host_that_is_not_a_url_is_refused() {
    let error = LocalClassifier::new(client(), "not a host", &"m".parse().unwrap(), DEADLINE).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("not a host"));
}
