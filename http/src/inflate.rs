//! Compressed request bodies: `gzip`, `deflate` and `br`, as the Node service reads them.
use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, HeaderValue, header};

/// Bytes that are unpacked before other requests have their turn: well below a millisecond.
const PIECE: usize = 64 * 1024;
const BROTLI_BUFFER: usize = 4 * 1024;

/// What a body is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// With a zlib header, as the standard has it.
    Deflate,
    Brotli,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InflateError<E> {
    /// It is not what it says that it is, or breaks off.
    Corrupt,
    /// Whoever takes the bytes takes no more.
    Stopped(E),
}

impl Coding {
    /// From `Content-Encoding`: `None` if the body is as it is, an error if nobody can read it.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let Some(name) = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) else { return Ok(None) };
        let known = [
            (&b"identity"[..], None),
            (b"gzip", Some(Self::Gzip)),
            (b"deflate", Some(Self::Deflate)),
            (b"br", Some(Self::Brotli)),
        ];
        let found = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, coding)| coding).ok_or("send the body as it is, or in one of gzip, deflate, br")
    }

    /// Unpacks `packed`. `take` is given each piece and says whether there may be more.
    pub(crate) async fn inflate<E>(
        self,
        packed: Bytes,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), InflateError<E>> {
        // Nothing at all is an empty body, not a broken one.
        if packed.is_empty() {
            return Ok(());
        }
        let mut reader: Box<dyn Read> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(io::Cursor::new(packed))),
            Self::Deflate => Box::new(ZlibDecoder::new(io::Cursor::new(packed))),
            Self::Brotli => Box::new(Decompressor::new(io::Cursor::new(packed), BROTLI_BUFFER)),
        };
        let mut piece = vec![0; PIECE];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&piece[..count]).map_err(InflateError::Stopped)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(InflateError::Corrupt),
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn content_encodings() {
        for (name, coding) in [
            ("identity", Ok(None)),
            ("GZip", Ok(Some(Coding::Gzip))),
            ("deflate", Ok(Some(Coding::Deflate))),
            ("BR", Ok(Some(Coding::Brotli))),
        ] {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(name))].into_iter().collect();
            assert_eq!(Coding::of(&headers), coding, "{name}");
        }
        for name in ["", "zstd", "gzip, br", "x-gzip"] {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(name))].into_iter().collect();
            assert!(Coding::of(&headers).is_err(), "{name}");
        }
        assert_eq!(Coding::of(&HeaderMap::new()), Ok(None));
    }

    fn pack(coding: Coding, text: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Brotli => {
                let mut packed = Vec::new();
                brotli::BrotliCompress(&mut &text[..], &mut packed, &brotli::enc::BrotliEncoderParams::default())
                    .unwrap();
                packed
            }
        }
    }

    /// Unpacks at most so many bytes.
    #[tokio::main(flavor = "current_thread")]
    async fn unpack(coding: Coding, packed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError<&'static str>> {
        let mut text = Vec::new();
        let take = |piece: &[u8]| {
            text.extend_from_slice(piece);
            if text.len() > limit { Err("enough") } else { Ok(()) }
        };
        coding.inflate(Bytes::copy_from_slice(packed), take).await.map(|()| text)
    }

    #[test]
    fn what_is_packed_comes_out_and_what_is_broken_does_not() {
        let text: Vec<u8> = (0..100_000_u64).flat_map(|n| (n * n % 251).to_string().into_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
            let packed = pack(coding, &text);
            assert_eq!(unpack(coding, &packed, usize::MAX).as_ref(), Ok(&text), "{coding:?}");
            assert_eq!(unpack(coding, b"", 0), Ok(Vec::new()));
            assert_eq!(unpack(coding, &packed, 1_000), Err(InflateError::Stopped("enough")));
            for cut in [1, packed.len() / 2, packed.len() - 1] {
                assert_eq!(unpack(coding, &packed[..cut], usize::MAX), Err(InflateError::Corrupt), "{coding:?} {cut}");
            }
            assert_eq!(
                unpack(coding, b"{\"receiverId\":\"a.near\"}", usize::MAX),
                Err(InflateError::Corrupt),
                "{coding:?}"
            );
        }
        let two = [pack(Coding::Gzip, b"a"), pack(Coding::Gzip, b"b")].concat();
        assert_eq!(unpack(Coding::Gzip, &two, 9), Ok(b"ab".to_vec()));
    }
}
