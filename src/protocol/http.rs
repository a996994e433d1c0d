//! Requests and responses of HTTP/1.1 (RFC 9112), as far as the opening handshake needs them.
//!
//! The module reads and writes heads, and reads the content of the plain requests that a server answers beside its WebSocket
//! connections.

mod authority;
mod body;
mod date;
mod date_forms;
mod fields;
mod forwarded;
mod head;
mod list;
mod reader;
mod request;
mod request_body;
mod request_line;
mod response;
mod response_head;
mod scanner;
mod token;

pub(crate) use authority::{Authority, AuthorityPattern, split_zone};
pub(crate) use body::Body;
pub use date::HttpDate;
pub use fields::HeaderError;
pub(crate) use fields::{HeaderFields, is_field_value, push_field};
pub use forwarded::ForwardedHeader;
pub(crate) use head::is_secret;
pub use list::ExtensionOffer;
pub(crate) use list::{MalformedList, contains_token, extension_offers, tokens};
pub use reader::{ResponseError, ResponseReader};
pub(crate) use request::HttpVersion;
pub use request::Request;
pub(crate) use request_body::{BodyReader, Framing};
pub(crate) use request_line::asks_for_head;
pub use response::Response;
pub(crate) use response::{Content, Persistence, refuse};
pub use response_head::ResponseHead;
pub use scanner::{HeadError, HeadLimits, HeadScanner};
pub(crate) use token::{is_token, same_but_for_case};
