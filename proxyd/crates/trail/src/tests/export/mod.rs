//! What exports write.
mod asciicast;
mod json;
mod pcapng;
mod text;
