//! A node in front of the sandbox that forgets, or lies about, transactions.
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::client;

/// What is odd about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// Nothing: a second node of the same chain.
    None,
    /// It has no block but the last, and no transaction.
    Forgets,
    /// It calls every transaction failed.
    Lies,
}

/// Starts one. Returns its address; it serves until the test's runtime ends.
pub(crate) async fn start(sandbox: &str, oddity: Oddity) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let sandbox = sandbox.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, sandbox.clone(), oddity));
        }
    });
    address
}

/// Answers one request after the other, until the client goes away.
async fn serve(stream: TcpStream, sandbox: String, oddity: Oddity) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let answer = answer(&serde_json::from_slice(&body).unwrap(), &sandbox, oddity).await.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn answer(question: &Value, sandbox: &str, oddity: Oddity) -> Value {
    let mut answer: Value = client().post(sandbox).json(question).send().await.unwrap().json().await.unwrap();
    match (oddity, question["method"].as_str().unwrap()) {
        (Oddity::Forgets, "status") => {
            let info = &mut answer["result"]["sync_info"];
            info["earliest_block_height"] = info["latest_block_height"].clone();
        }
        (Oddity::Forgets, "tx") => {
            let error = json!({
                "name": "HANDLER_ERROR", "code": -32000, "message": "Server error",
                "cause": { "name": "UNKNOWN_TRANSACTION", "info": { "requested_transaction_hash": "x" } },
                "data": "Transaction doesn't exist",
            });
            answer = json!({ "jsonrpc": "2.0", "id": question["id"], "error": error });
        }
        (Oddity::Lies, "tx") => {
            let failure = json!({ "Failure": { "ActionError": {
                "index": 0, "kind": { "FunctionCallError": { "ExecutionError": "a lie" } },
            } } });
            let receipts = answer["result"]["receipts_outcome"].as_array_mut();
            receipts.into_iter().flatten().for_each(|receipt| receipt["outcome"]["status"] = failure.clone());
        }
        _ => {}
    }
    answer
}
