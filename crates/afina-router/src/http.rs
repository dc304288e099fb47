//! A server that speaks OpenAI's API, and `POST /score` for model routes.

use std::{thread, time::Duration};

use afina_chat::Conversation;
use serde_json::{Value, json};
use ureq::Agent;

use crate::client::{ChatClient, ChatReply, ClientError, ScoreReply, Usage};

/// How often a busy server (429) is asked again.
const RETRIES: usize = 5;
/// The longest wait between two tries, whatever `Retry-After` says, in seconds.
const LONGEST_WAIT: u64 = 60;

/// One server; connections are kept open.
#[derive(Debug)]
pub struct HttpClient {
    base_url: String,
    api_key: Option<String>,
    agent: Agent,
}

impl HttpClient {
    /// A client for the API under `base_url`, such as `http://127.0.0.1:8000/v1`.
    pub fn new(base_url: &str, api_key: Option<String>) -> HttpClient {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(600)))
            .build();
        HttpClient { base_url: base_url.trim_end_matches('/').to_string(), api_key, agent: config.new_agent() }
    }

    /// Posts until the server has time; the answer of a success, parsed.
    fn post(&self, url: &str, body: &Value) -> Result<Value, ClientError> {
        for retry in 0.. {
            let connect = |source: ureq::Error| ClientError::Connect { url: url.to_string(), source: Box::new(source) };
            let mut request = self.agent.post(url);
            if let Some(key) = &self.api_key {
                request = request.header("Authorization", format!("Bearer {key}"));
            }
            let mut response = request.send_json(body).map_err(connect)?;
            let status = response.status().as_u16();
            if status == 429 && retry < RETRIES {
                let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                thread::sleep(Duration::from_secs(after.unwrap_or(1).min(LONGEST_WAIT)));
                continue;
            }
            let text = response.body_mut().read_to_string().map_err(connect)?;
            let answer = serde_json::from_str(&text);
            if (200..300).contains(&status) {
                return answer.map_err(|source| ClientError::Json { url: url.to_string(), source });
            }
            let message = answer.ok().and_then(|answer: Value| Some(answer["error"]["message"].as_str()?.to_string()));
            let message = message.unwrap_or_else(|| text.chars().take(200).collect());
            return Err(ClientError::Status { url: url.to_string(), status, message });
        }
        unreachable!("the last try always returns")
    }
}

impl ChatClient for HttpClient {
    fn chat(
        &self,
        model: &str,
        conversation: &Conversation,
        max_tokens: Option<usize>,
        temperature: f32,
    ) -> Result<ChatReply, ClientError> {
        let url = format!("{}/chat/completions", self.base_url);
        let mut body = json!({"model": model, "messages": conversation.messages, "temperature": temperature});
        if let Some(tools) = &conversation.tools {
            body["tools"] = json!(tools);
        }
        if let Some(max_tokens) = max_tokens {
            body["max_tokens"] = json!(max_tokens);
        }
        let answer = self.post(&url, &body)?;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str();
        Ok(ChatReply {
            text: text.ok_or_else(|| wrong(&url, "a text in `choices[0].message.content`", &answer))?.to_string(),
            finish_reason: choice["finish_reason"].as_str().unwrap_or("stop").to_string(),
            usage: usage(&url, &answer)?,
        })
    }

    fn score(
        &self,
        model: &str,
        conversation: &Conversation,
        continuations: &[String],
    ) -> Result<ScoreReply, ClientError> {
        let url = format!("{}/score", self.base_url);
        let body = json!({"model": model, "messages": conversation.messages, "continuations": continuations});
        let answer = self.post(&url, &body)?;
        let rows = answer["data"].as_array().filter(|rows| rows.len() == continuations.len());
        let rows = rows.ok_or_else(|| wrong(&url, "a row in `data` for each continuation", &answer))?;
        let logprobs = rows.iter().zip(continuations).map(|(row, text)| {
            // A server that sorts its rows would otherwise give one label the score of another.
            let logprob = row["logprob"].as_f64().filter(|_| row["text"] == text.as_str());
            logprob.ok_or_else(|| wrong(&url, "the continuations in order, each with its `logprob`", row))
        });
        Ok(ScoreReply { logprobs: logprobs.collect::<Result<_, _>>()?, usage: usage(&url, &answer)? })
    }
}

/// The usage, which must add up: the ledger's sums rest on it.
fn usage(url: &str, answer: &Value) -> Result<Usage, ClientError> {
    let usage: Option<Usage> = serde_json::from_value(answer["usage"].clone()).ok();
    usage
        .filter(|usage| usage.total_tokens == usage.prompt_tokens + usage.completion_tokens)
        .ok_or_else(|| wrong(url, "a `usage` whose parts sum to its total", &answer["usage"]))
}

fn wrong(url: &str, expected: &'static str, found: &Value) -> ClientError {
    ClientError::Answer { url: url.to_string(), expected, found: found.to_string().chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use afina_chat::{Conversation, Message, Role};

    use super::*;
    use crate::testing::http_server;

    fn question() -> Conversation {
        Conversation::new(vec![Message::new(Role::User, "hola")])
    }

    fn chat(answers: &[&str]) -> (Result<ChatReply, ClientError>, Vec<String>) {
        let (url, requests) = http_server(answers);
        let reply = HttpClient::new(&url, Some("s3cret".to_string())).chat("m", &question(), Some(5), 0.0);
        (reply, requests.try_iter().collect())
    }

    const ANSWER: &str = r#"200 {"choices":[{"message":{"content":"buenas"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

    #[test]
    fn a_chat_is_posted_and_read() {
        let (reply, requests) = chat(&[ANSWER]);
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
        assert_eq!(reply.unwrap(), ChatReply { text: "buenas".into(), finish_reason: "stop".into(), usage });
        let request = &requests[0];
        assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1"), "{request}");
        assert!(request.to_lowercase().contains("authorization: bearer s3cret"), "{request}");
        let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let expected = json!({"model": "m", "messages": [{"role": "user", "content": "hola"}], "temperature": 0.0, "max_tokens": 5});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_busy_server_is_asked_again() {
        let (reply, requests) = chat(&["429 {}", "429 {}", ANSWER]);
        assert_eq!((reply.unwrap().text.as_str(), requests.len()), ("buenas", 3));
    }

    #[test]
    fn what_the_server_says_against_it_is_passed_on() {
        let (reply, _) = chat(&[r#"404 {"error":{"message":"The model 'm' does not exist"}}"#]);
        let error = reply.unwrap_err().to_string();
        assert!(error.ends_with("/v1/chat/completions` answered 404: The model 'm' does not exist"), "{error}");
    }

    #[test]
    fn answers_that_are_not_what_was_asked_are_refused() {
        assert!(matches!(chat(&["200 <html>"]).0.unwrap_err(), ClientError::Json { .. }));
        assert!(matches!(chat(&["200 {}"]).0.unwrap_err(), ClientError::Answer { .. }));
        let wrong = ANSWER.replace("\"total_tokens\":5", "\"total_tokens\":9");
        let error = chat(&[&wrong]).0.unwrap_err().to_string();
        assert!(error.contains("expected a `usage` whose parts sum to its total"), "{error}");
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let error = HttpClient::new("http://127.0.0.1:1/v1", None).chat("m", &question(), None, 0.0).unwrap_err();
        assert_eq!(error.to_string(), "failed to reach `http://127.0.0.1:1/v1/chat/completions`");
        assert!(error.source().is_some());
    }

    #[test]
    fn scores_come_in_the_order_of_the_labels_or_not_at_all() {
        let labels = ["a".to_string(), "b".to_string()];
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#;
        let right = format!(r#"200 {{"data":[{{"text":"a","logprob":-1.5}},{{"text":"b","logprob":-2.5}}],{usage}}}"#);
        let swapped =
            format!(r#"200 {{"data":[{{"text":"b","logprob":-2.5}},{{"text":"a","logprob":-1.5}}],{usage}}}"#);
        let short = format!(r#"200 {{"data":[{{"text":"a","logprob":-1.5}}],{usage}}}"#);
        let (url, _requests) = http_server(&[&right, &swapped, &short]);
        let client = HttpClient::new(&url, None);
        let scored = client.score("m", &question(), &labels).unwrap();
        assert_eq!((scored.logprobs, scored.usage.total_tokens), (vec![-1.5, -2.5], 7));
        assert!(client.score("m", &question(), &labels).is_err());
        assert!(client.score("m", &question(), &labels).is_err());
    }
}
