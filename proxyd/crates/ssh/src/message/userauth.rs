//! Messages of the authentication protocol (RFC 4252, RFC 4256).

use zeroize::Zeroizing;

use super::text::clean;
use super::{gssapi, number};
use crate::cursor::{Reader, Writer};
use crate::error::{DecodeError, DecodeKind};
use crate::limits::{ANSWER_BYTES_MAX, BANNER_BYTES_MAX, PROMPT_BYTES_MAX, PROMPTS_MAX};

/// The service that runs over an authenticated connection (RFC 4254 section 1).
pub const CONNECTION_SERVICE: &[u8] = b"ssh-connection";
/// The authentication service (RFC 4252 section 1).
pub const USERAUTH_SERVICE: &[u8] = b"ssh-userauth";

/// One attempt of a client (RFC 4252 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// User name as sent; any bytes.
    pub user: &'a [u8],
    /// The service the client wants afterwards.
    pub service: &'a [u8],
    /// What it brings.
    pub method: Method<'a>,
}

/// The method-specific fields of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method<'a> {
    /// `none` (RFC 4252 section 5.2): asks which methods may go on.
    None,
    /// `password` (RFC 4252 section 8).
    Password(&'a [u8]),
    /// `password` with a new one (RFC 4252 section 8).
    PasswordChange {
        /// The password so far.
        old: &'a [u8],
        /// The one to replace it.
        new: &'a [u8],
    },
    /// `publickey` (RFC 4252 section 7).
    PublicKey(PublicKey<'a>),
    /// `keyboard-interactive` (RFC 4256 section 3.1).
    KeyboardInteractive,
    /// `gssapi-with-mic` (RFC 4462 section 3.2).
    Gssapi {
        /// Whether Kerberos is among the mechanisms that the client could use.
        kerberos: bool,
    },
    /// A method that is not known here.
    Other(&'a [u8]),
}

/// The fields of a `publickey` attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey<'a> {
    /// Signature algorithm, such as `rsa-sha2-256`.
    pub algorithm: &'a [u8],
    /// The public key's blob.
    pub blob: &'a [u8],
    /// The signature's blob, or none where the client only asks whether the key would do.
    pub signature: Option<&'a [u8]>,
    /// What the signature covers after the session identifier.
    pub signed: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a `SSH_MSG_USERAUTH_REQUEST`; bytes of unknown methods are not looked at.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        let user = reader.string("user name")?;
        let service = reader.string("service name")?;
        let method = match reader.string("method name")? {
            b"none" => Method::None,
            b"password" => {
                let change = reader.bool("password change")?;
                let password = reader.string("password")?;
                let new = if change { Some(reader.string("new password")?) } else { None };
                reader.finish()?;
                match new {
                    Some(new) => Method::PasswordChange { old: password, new },
                    None => Method::Password(password),
                }
            }
            b"publickey" => Method::PublicKey(PublicKey::parse(message, reader)?),
            b"keyboard-interactive" => {
                reader.string("language tag")?;
                reader.string("submethods")?;
                reader.finish()?;
                Method::KeyboardInteractive
            }
            name if name == gssapi::METHOD.as_bytes() => {
                let kerberos = gssapi::offers_kerberos(&mut reader)?;
                reader.finish()?;
                Method::Gssapi { kerberos }
            }
            other => Method::Other(other),
        };
        Ok(Self { user, service, method })
    }
}

impl<'a> PublicKey<'a> {
    fn parse(message: &'a [u8], mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let signed = reader.bool("has signature")?;
        let algorithm = reader.string("public key algorithm")?;
        let blob = reader.string("public key")?;
        let covered = message.get(..reader.offset()).unwrap_or_default();
        let signature = if signed { Some(reader.string("signature")?) } else { None };
        reader.finish()?;
        Ok(Self { algorithm, blob, signature, signed: covered })
    }
}

/// One question of a keyboard-interactive round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Text to show, at most [`PROMPT_BYTES_MAX`] bytes.
    pub text: String,
    /// Whether what is typed may be shown.
    pub echo: bool,
}

/// One keyboard-interactive round of questions (RFC 4256 section 3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InfoRequest {
    /// Title of the round.
    pub name: String,
    /// Text above the questions.
    pub instruction: String,
    /// The questions; a round may have none.
    pub prompts: Vec<Prompt>,
}

impl InfoRequest {
    /// Reads a round; its texts come cleaned, more than [`PROMPTS_MAX`] questions are an error.
    pub fn parse(message: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        let name = clean(reader.string("name")?, PROMPT_BYTES_MAX);
        let instruction = clean(reader.string("instruction")?, BANNER_BYTES_MAX);
        reader.string("language tag")?;
        let prompts = prompt_count(&mut reader, "number of prompts")?;
        let prompts = (0..prompts)
            .map(|_index| {
                let text = clean(reader.string("prompt")?, PROMPT_BYTES_MAX);
                Ok(Prompt { text, echo: reader.bool("echo")? })
            })
            .collect::<Result<_, DecodeError>>()?;
        reader.finish()?;
        Ok(Self { name, instruction, prompts })
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(number::USERAUTH_60);
        writer.string(self.name.as_bytes()).string(self.instruction.as_bytes()).string(b"");
        writer.u32(u32::try_from(self.prompts.len()).unwrap_or(u32::MAX));
        for prompt in &self.prompts {
            writer.string(prompt.text.as_bytes()).bool(prompt.echo);
        }
        writer.into_bytes()
    }
}

/// Reads the answers to a round (RFC 4256 section 3.4).
pub fn parse_info_response(message: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, DecodeError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    let answers = prompt_count(&mut reader, "number of responses")?;
    let answers = (0..answers)
        .map(|_index| {
            let offset = reader.offset();
            let answer = reader.string("response")?;
            if answer.len() > ANSWER_BYTES_MAX {
                let kind = DecodeKind::TooLong { length: answer.len(), limit: ANSWER_BYTES_MAX };
                return Err(DecodeError { field: "response", offset, kind });
            }
            Ok(Zeroizing::new(answer.to_vec()))
        })
        .collect::<Result<_, DecodeError>>()?;
    reader.finish()?;
    Ok(answers)
}

/// A count of prompts or answers, checked against [`PROMPTS_MAX`] before anything is allocated.
fn prompt_count(reader: &mut Reader<'_>, field: &'static str) -> Result<usize, DecodeError> {
    let offset = reader.offset();
    let count = usize::try_from(reader.u32(field)?).unwrap_or(usize::MAX);
    if count > PROMPTS_MAX {
        let kind = DecodeKind::TooLong { length: count, limit: PROMPTS_MAX };
        return Err(DecodeError { field, offset, kind });
    }
    Ok(count)
}

/// The answers to a round, in order.
#[must_use]
pub fn info_response<A: AsRef<[u8]>>(answers: &[A]) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::message(number::USERAUTH_INFO_RESPONSE);
    writer.u32(u32::try_from(answers.len()).unwrap_or(u32::MAX));
    for answer in answers {
        writer.string(answer.as_ref());
    }
    Zeroizing::new(writer.into_bytes())
}

/// The attempt failed or was not enough; `methods` may go on (RFC 4252 section 5.1).
#[must_use]
pub fn failure<N: AsRef<[u8]>>(methods: &[N], partial_success: bool) -> Vec<u8> {
    let mut writer = Writer::message(number::USERAUTH_FAILURE);
    writer.name_list(methods).bool(partial_success);
    writer.into_bytes()
}

/// The key would do; sign with it (RFC 4252 section 7).
#[must_use]
pub fn key_ok(algorithm: &[u8], blob: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::USERAUTH_60);
    writer.string(algorithm).string(blob);
    writer.into_bytes()
}

/// The password is right but has to be changed; `text`, cleaned, says so (RFC 4252 section 8).
#[must_use]
pub fn password_expired(text: &str) -> Vec<u8> {
    let mut writer = Writer::message(number::USERAUTH_60);
    writer.string(clean(text.as_bytes(), BANNER_BYTES_MAX).as_bytes()).string(b"");
    writer.into_bytes()
}

/// Text for the user, cleaned (RFC 4252 section 5.4).
#[must_use]
pub fn banner(text: &str) -> Vec<u8> {
    let mut writer = Writer::message(number::USERAUTH_BANNER);
    writer.string(clean(text.as_bytes(), BANNER_BYTES_MAX).as_bytes()).string(b"");
    writer.into_bytes()
}

/// The start of every attempt for the connection service.
fn request(user: &[u8], method: &[u8]) -> Writer {
    let mut writer = Writer::message(number::USERAUTH_REQUEST);
    writer.string(user).string(CONNECTION_SERVICE).string(method);
    writer
}

/// Asks which methods may go on (RFC 4252 section 5.2).
#[must_use]
pub fn none_request(user: &[u8]) -> Vec<u8> {
    request(user, b"none").into_bytes()
}

/// Tries a password (RFC 4252 section 8).
#[must_use]
pub fn password_request(user: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut writer = request(user, b"password");
    writer.bool(false).string(password);
    Zeroizing::new(writer.into_bytes())
}

/// Changes a password that has expired (RFC 4252 section 8).
#[must_use]
pub fn password_change_request(user: &[u8], old: &[u8], new: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut writer = request(user, b"password");
    writer.bool(true).string(old).string(new);
    Zeroizing::new(writer.into_bytes())
}

/// Starts keyboard-interactive (RFC 4256 section 3.1).
#[must_use]
pub fn interactive_request(user: &[u8]) -> Vec<u8> {
    let mut writer = request(user, b"keyboard-interactive");
    writer.string(b"").string(b"");
    writer.into_bytes()
}

/// Asks whether a public key would do; nothing is proven by it.
#[must_use]
pub fn key_query(user: &[u8], algorithm: &[u8], blob: &[u8]) -> Vec<u8> {
    let mut writer = request(user, b"publickey");
    writer.bool(false).string(algorithm).string(blob);
    writer.into_bytes()
}

/// A public-key attempt up to where the signature would follow; `signed` says whether one will.
#[must_use]
pub fn key_request(user: &[u8], algorithm: &[u8], blob: &[u8]) -> Vec<u8> {
    let mut writer = request(user, b"publickey");
    writer.bool(true).string(algorithm).string(blob);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read_back() {
        let password = password_request(b"root", b"secret");
        let key = {
            let mut message = key_request(b"root", b"ssh-ed25519", b"blob");
            let mut signature = Writer::new();
            signature.string(b"signature");
            message.extend_from_slice(signature.as_bytes());
            message
        };
        let change = password_change_request(b"root", b"old", b"\xff");
        let cases: [(&str, &[u8], Method<'_>); 5] = [
            ("none", &none_request(b"root"), Method::None),
            ("password", &password, Method::Password(b"secret")),
            ("change", &change, Method::PasswordChange { old: b"old", new: b"\xff" }),
            ("interactive", &interactive_request(b"root"), Method::KeyboardInteractive),
            (
                "key",
                &key,
                Method::PublicKey(PublicKey {
                    algorithm: b"ssh-ed25519",
                    blob: b"blob",
                    signature: Some(b"signature"),
                    signed: &key[..key.len() - 13],
                }),
            ),
        ];
        for (case, message, method) in cases {
            let request = Request::parse(message).unwrap();
            assert_eq!(request.user, b"root", "{case}");
            assert_eq!(request.service, CONNECTION_SERVICE, "{case}");
            assert_eq!(request.method, method, "{case}");
            for length in 0..message.len() {
                assert!(Request::parse(&message[..length]).is_err(), "{case} cut at {length}");
            }
        }
    }

    #[test]
    fn rounds_are_read_back_and_bounded() {
        let prompts = vec![
            Prompt { text: "Password: ".to_owned(), echo: false },
            Prompt { text: "Name: ".to_owned(), echo: true },
        ];
        let round = InfoRequest { name: "n".to_owned(), instruction: "i".to_owned(), prompts };
        let message = round.encode();
        assert_eq!(InfoRequest::parse(&message), Ok(round));
        for length in 0..message.len() {
            assert!(InfoRequest::parse(&message[..length]).is_err(), "cut at {length}");
        }
        let mut flood = Writer::message(number::USERAUTH_60);
        flood.string(b"").string(b"").string(b"").u32(u32::MAX);
        let kind = DecodeKind::TooLong { length: 0xffff_ffff, limit: PROMPTS_MAX };
        assert_eq!(InfoRequest::parse(flood.as_bytes()).unwrap_err().kind, kind);
        let mut flood = Writer::message(number::USERAUTH_INFO_RESPONSE);
        flood.u32(u32::MAX);
        assert_eq!(parse_info_response(flood.as_bytes()).unwrap_err().kind, kind);
    }

    #[test]
    fn answers_are_read_back() {
        let message = info_response(&["one", ""]);
        let answers = parse_info_response(&message).unwrap();
        assert_eq!(answers, [Zeroizing::new(b"one".to_vec()), Zeroizing::new(Vec::new())]);
        for length in 0..message.len() {
            assert!(parse_info_response(&message[..length]).is_err(), "cut at {length}");
        }
        let longest = vec![vec![0xff; ANSWER_BYTES_MAX]];
        let answers = parse_info_response(&info_response(&longest)).unwrap();
        assert_eq!(answers[0].as_slice(), longest[0]);
        let longer = info_response(&[vec![0; ANSWER_BYTES_MAX + 1]]);
        let kind = DecodeKind::TooLong { length: ANSWER_BYTES_MAX + 1, limit: ANSWER_BYTES_MAX };
        assert_eq!(parse_info_response(&longer).unwrap_err().kind, kind);
    }

    #[test]
    fn rounds_of_any_size_and_any_bytes() {
        for count in [0, 1, 5, PROMPTS_MAX] {
            let mut message = Writer::message(number::USERAUTH_60);
            message.string(b"\xff").string(b"\x1b[2J").string(b"").u32(count.try_into().unwrap());
            for _prompt in 0..count {
                message.string(b"\xfe\x07?").bool(false);
            }
            let round = InfoRequest::parse(message.as_bytes()).unwrap();
            assert_eq!(
                (round.name.as_str(), round.instruction.as_str()),
                ("\u{fffd}", "\u{fffd}[2J")
            );
            assert_eq!(round.prompts.len(), count);
            assert!(round.prompts.iter().all(|prompt| prompt.text == "\u{fffd}\u{fffd}?"));
        }
    }
}
