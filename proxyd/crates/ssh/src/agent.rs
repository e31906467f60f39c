//! The agent protocol, as far as logging in by a client's agent needs it
//! (draft-ietf-sshm-ssh-agent, section 3).

use crate::cursor::{Reader, Writer};
use crate::error::{DecodeError, DecodeKind};
use crate::limits::{AGENT_ANSWER_BYTES_MAX, AGENT_KEYS_MAX};

/// A key that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKey {
    /// The public key or certificate, type first.
    pub blob: Vec<u8>,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The keys that it holds, the first of them where there are too many.
    Keys(Vec<AgentKey>),
    /// A signature, algorithm first.
    Signature(Vec<u8>),
    /// It refuses, or does not know the request.
    Refused,
}

/// How an RSA key signs; other keys have one way (section 3.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaHash {
    /// `rsa-sha2-256`
    Sha256,
    /// `rsa-sha2-512`
    Sha512,
}

/// Asks for the keys, as it is sent: its length first.
#[must_use]
pub fn keys_request() -> Vec<u8> {
    framed(&Writer::message(REQUEST_IDENTITIES))
}

/// Asks for a signature over `data` by the key that `blob` names.
#[must_use]
pub fn sign_request(blob: &[u8], data: &[u8], rsa: Option<RsaHash>) -> Vec<u8> {
    let flags = match rsa {
        None => 0,
        Some(RsaHash::Sha256) => RSA_SHA2_256,
        Some(RsaHash::Sha512) => RSA_SHA2_512,
    };
    let mut writer = Writer::message(SIGN_REQUEST);
    writer.string(blob).string(data).u32(flags);
    framed(&writer)
}

/// Puts an answer together from the pieces in which it arrives.
#[derive(Debug, Default)]
pub struct Answers {
    received: Vec<u8>,
}

impl Answers {
    /// Takes some bytes; gives the answer once it is whole. Fails where it is too long, has not
    /// the form of one, or is followed by bytes that nobody asked for.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Answer>, DecodeError> {
        self.received.extend_from_slice(bytes);
        let mut reader = Reader::new(&self.received);
        let Some(length) = self.received.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        reader.u32("agent message length")?;
        if length > AGENT_ANSWER_BYTES_MAX {
            let kind = DecodeKind::TooLong { length, limit: AGENT_ANSWER_BYTES_MAX };
            return Err(DecodeError { field: "agent message length", offset: 0, kind });
        }
        if reader.rest().len() < length {
            return Ok(None);
        }
        let mut reader = Reader::new(&self.received);
        let answer = parse(reader.string("agent message")?)?;
        reader.finish()?;
        self.received.clear();
        Ok(Some(answer))
    }
}

fn parse(message: &[u8]) -> Result<Answer, DecodeError> {
    let mut reader = Reader::new(message);
    match reader.u8("agent message number")? {
        IDENTITIES_ANSWER => {
            let count = reader.u32("number of keys")?;
            let mut keys = Vec::new();
            for _key in 0..count {
                let blob = reader.string("key")?.to_vec();
                reader.string("comment")?;
                if keys.len() < AGENT_KEYS_MAX {
                    keys.push(AgentKey { blob });
                }
            }
            reader.finish()?;
            Ok(Answer::Keys(keys))
        }
        SIGN_RESPONSE => {
            let signature = reader.string("signature")?.to_vec();
            reader.finish()?;
            Ok(Answer::Signature(signature))
        }
        _ => Ok(Answer::Refused),
    }
}

fn framed(message: &Writer) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.string(message.as_bytes());
    writer.into_bytes()
}

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_answer(count: u32, keys: usize) -> Vec<u8> {
        let mut writer = Writer::message(IDENTITIES_ANSWER);
        writer.u32(count);
        for key in 0..keys {
            writer.string(format!("key {key}").as_bytes()).string(b"comment");
        }
        framed(&writer)
    }

    fn signature_answer() -> Vec<u8> {
        let mut writer = Writer::message(SIGN_RESPONSE);
        writer.string(b"signature");
        framed(&writer)
    }

    #[test]
    fn answers_arrive_in_any_pieces() {
        let keys = Answer::Keys(vec![
            AgentKey { blob: b"key 0".to_vec() },
            AgentKey { blob: b"key 1".to_vec() },
        ]);
        let cases = [
            (keys_answer(2, 2), keys),
            (signature_answer(), Answer::Signature(b"signature".to_vec())),
            (framed(&Writer::message(5)), Answer::Refused),
            (framed(&Writer::message(99)), Answer::Refused),
        ];
        for (bytes, expected) in cases {
            for cut in 0..bytes.len() {
                let mut answers = Answers::default();
                assert_eq!(answers.push(&bytes[..cut]).unwrap(), None, "cut at {cut}");
                assert_eq!(answers.push(&bytes[cut..]).unwrap(), Some(expected.clone()));
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let longer = |bytes: Vec<u8>| [bytes, vec![0]].concat();
        let cases = [
            ("more keys than there are", keys_answer(3, 2)),
            ("fewer keys than there are", keys_answer(1, 2)),
            ("2^32-1 keys", keys_answer(u32::MAX, 0)),
            ("bytes behind it", longer(signature_answer())),
            ("too long", vec![0xff; 4]),
            ("empty", vec![0; 4]),
        ];
        for (case, bytes) in cases {
            assert!(Answers::default().push(&bytes).is_err(), "{case}");
        }
    }

    #[test]
    fn too_many_keys_are_left_out() {
        let count = u32::try_from(AGENT_KEYS_MAX).unwrap() + 1;
        let bytes = keys_answer(count, AGENT_KEYS_MAX + 1);
        let Ok(Some(Answer::Keys(keys))) = Answers::default().push(&bytes) else { panic!("keys") };
        assert_eq!(keys.len(), AGENT_KEYS_MAX);
    }

    #[test]
    fn requests_have_their_form() {
        assert_eq!(keys_request(), [0, 0, 0, 1, 11]);
        let request = sign_request(b"k", b"d", Some(RsaHash::Sha512));
        assert_eq!(request, [0, 0, 0, 15, 13, 0, 0, 0, 1, b'k', 0, 0, 0, 1, b'd', 0, 0, 0, 4]);
    }
}
