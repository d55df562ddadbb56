//! Compressed bodies and forms.
use std::io::Write as _;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use serde_json::{Value, json};

use crate::{common::client, support::Waiting};

async fn post(base: &str, kind: &str, encoding: Option<&str>, body: Vec<u8>) -> (u16, String) {
    let request = client().post(format!("{base}/send-ft")).header("content-type", kind);
    let request = encoding.into_iter().fold(request, |request, name| request.header("content-encoding", name));
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn brotli(mut bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut bytes, &mut packed, &brotli::enc::BrotliEncoderParams::default()).unwrap();
    packed
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let service = Waiting::start("contract-compressed", &[]);
    for (name, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("deflate", zlib), ("br", brotli)] {
        let send = async |body: &[u8]| post(&service.base, "application/json", Some(name), body.to_vec()).await;
        let body = json!({ "receiverId": "a..b", "amount": "1", "memo": "x".repeat(100_000) }).to_string();
        let (status, answer) = send(&pack(body.as_bytes())).await;
        assert!(status == 400 && answer.contains("Invalid receiverId format"), "{name}: {status} {answer}");
        // The limit is that of what comes out.
        let bomb = pack(&vec![b' '; 10 * 1024 * 1024 + 1]);
        assert!(bomb.len() < 100_000);
        assert_eq!(send(&bomb).await.0, 413, "{name}");
        let packed = pack(body.as_bytes());
        assert_eq!(send(&packed[..packed.len() / 2]).await.0, 400, "{name}, cut off");
        assert_eq!(send(body.as_bytes()).await.0, 400, "{name}, not compressed at all");
    }
    let upper = post(&service.base, "application/json", Some("GZIP"), gzip(b"{}")).await;
    assert_eq!(upper.0, 400);
    assert_eq!(post(&service.base, "application/json", Some("zstd"), b"{}".to_vec()).await.0, 415);
    assert_eq!(post(&service.base, "application/json", Some("gzip, gzip"), gzip(&gzip(b"{}"))).await.0, 415);
}

#[tokio::test]
async fn forms_are_read_as_the_node_service_does() {
    let service = Waiting::start("contract-forms", &[]);
    let kind = "application/x-www-form-urlencoded";
    for (body, status, text) in [
        ("receiverId=ab.near&amount=5&memo=a+b", 503, "starting"),
        ("receiverId=a..b&amount=5", 400, "Invalid receiverId format"),
        ("amount=5", 400, "Either provide"),
        ("", 400, "Either provide"),
        ("transfers[0][receiverId]=ab.near&transfers[0][amount]=5", 503, "starting"),
        ("transfers%5B0%5D%5BreceiverId%5D=ab.near&transfers%5B0%5D%5Bamount%5D=x", 400, "amount must be"),
        (
            "transfers[1][receiverId]=ab.near&transfers[0][receiverId]=ab.near&transfers[1][amount]=5",
            400,
            "Each transfer",
        ),
    ] {
        let (told, answer) = post(&service.base, kind, None, body.into()).await;
        assert!(told == status && answer.contains(text), "{body}: {told} {answer}");
        assert!(serde_json::from_str::<Value>(&answer).is_ok());
    }
}
