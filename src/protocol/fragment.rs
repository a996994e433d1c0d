//! What has arrived of a message, for those who do not wait for all of it.

use crate::protocol::message::{Message, MessageRef};

/// The next bytes of a message, borrowed from the buffer they were received into.
///
/// A connection that receives in fragments hands out what arrives of a message at once, so that a message of any size
/// takes little memory. Such a fragment is what one read brought, and not necessarily a frame: a frame that comes in
/// several reads is several fragments, and a message that comes whole is one. Joined in their order, the fragments of a
/// message are its payload. Messages do not mix: the fragments of the next one follow the last of this one (RFC 6455 5.4).
///
/// A fragment is empty only if it is the [last](FragmentRef::is_last): the peer ended a message whose bytes were all
/// handed out, or that has none. A fragment of a text never ends inside a character, and is valid UTF-8.
///
/// ```
/// use threadbare::FragmentRef;
///
/// /// Adds up the bytes of each message, and prints the sum at its end.
/// fn count(sum: &mut u64, fragment: FragmentRef<'_>) {
///     if fragment.is_first() {
///         *sum = 0;
///     }
///     *sum += fragment.len() as u64;
///     if fragment.is_last() {
///         println!("{sum} bytes");
///     }
/// }
/// # count(&mut 0, threadbare::FragmentRef::whole("hello".into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentRef<'a> {
    pub(crate) payload: MessageRef<'a>,
    pub(crate) offset: u64,
    pub(crate) is_last: bool,
}

/// The next bytes of a message, in memory of their own. [`FragmentRef`] says what a fragment is.
///
/// ```
/// use threadbare::{Event, Fragment, Peer};
///
/// /// Prints how far a message has come, and answers its end.
/// fn on_fragment(peer: &Peer, fragment: &Fragment) {
///     println!("{} bytes at {}", fragment.len(), fragment.offset());
///     if fragment.is_last() {
///         let _ = peer.send("received"); // the peer may be gone
///     }
/// }
/// # fn on_event(event: Event) {
/// #     if let Event::Fragment(peer, fragment) = event {
/// #         on_fragment(&peer, &fragment);
/// #     }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment(Box<Kept>);

/// What a [`Fragment`] keeps, apart from it, so that the types that have a fragment or a message are no larger than a
/// message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    payload: Message,
    offset: u64,
    is_last: bool,
}

impl<'a> FragmentRef<'a> {
    /// A text or binary message that came whole, as its first and last fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// let fragment = FragmentRef::whole("hello".into());
    /// assert!(fragment.is_first() && fragment.is_last());
    /// assert_eq!(fragment.as_text(), Some("hello"));
    /// ```
    #[must_use]
    pub fn whole(message: MessageRef<'a>) -> FragmentRef<'a> {
        FragmentRef { payload: message, offset: 0, is_last: true }
    }

    /// Returns the bytes.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).as_bytes(), b"hello");
    /// ```
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.payload.as_bytes()
    }

    /// Returns the text if the message is text.
    ///
    /// ```
    /// use threadbare::{FragmentRef, MessageRef};
    ///
    /// assert_eq!(FragmentRef::whole(MessageRef::Text("hello")).as_text(), Some("hello"));
    /// assert_eq!(FragmentRef::whole(MessageRef::Binary(b"hello")).as_text(), None);
    /// ```
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        self.payload.as_text()
    }

    /// Returns whether the message is text.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("hello".into()).is_text());
    /// ```
    #[must_use]
    pub fn is_text(self) -> bool {
        self.payload.is_text()
    }

    /// Returns the number of bytes.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).len(), 5);
    /// ```
    #[must_use]
    pub fn len(self) -> usize {
        self.payload.len()
    }

    /// Returns whether there are no bytes, which only the last fragment of a message may have.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("".into()).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.payload.is_empty()
    }

    /// Returns how many bytes of the message came before this fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).offset(), 0);
    /// ```
    #[must_use]
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Returns whether a message begins with this fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// fn prepare(fragment: FragmentRef<'_>, received: &mut Vec<u8>) {
    ///     if fragment.is_first() {
    ///         received.clear();
    ///     }
    /// }
    /// # prepare(FragmentRef::whole("".into()), &mut Vec::new());
    /// ```
    #[must_use]
    pub fn is_first(self) -> bool {
        self.offset == 0
    }

    /// Returns whether the message ends with this fragment. If the connection ends before, there is no last fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("hello".into()).is_last());
    /// ```
    #[must_use]
    pub fn is_last(self) -> bool {
        self.is_last
    }

    /// Copies the fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().as_text(), Some("hello"));
    /// ```
    #[must_use]
    pub fn into_owned(self) -> Fragment {
        Fragment::new(self.payload.into_owned(), self.offset, self.is_last)
    }
}

impl Fragment {
    /// The size in bytes of what a fragment takes beside its payload.
    pub(crate) const OVERHEAD: usize = size_of::<Kept>();

    pub(crate) fn new(payload: Message, offset: u64, is_last: bool) -> Fragment {
        Fragment(Box::new(Kept { payload, offset, is_last }))
    }

    /// Returns the bytes as a message, whatever the fragment is of its own.
    pub(crate) fn into_message(self) -> Message {
        self.0.payload
    }

    /// Borrows the fragment.
    ///
    /// ```
    /// use threadbare::{Fragment, FragmentRef};
    ///
    /// fn is_end(fragment: &Fragment) -> bool {
    ///     fragment.as_ref().is_last()
    /// }
    /// # assert!(is_end(&FragmentRef::whole("".into()).into_owned()));
    /// ```
    #[must_use]
    pub fn as_ref(&self) -> FragmentRef<'_> {
        FragmentRef { payload: (&self.0.payload).into(), offset: self.0.offset, is_last: self.0.is_last }
    }

    /// Returns the bytes.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().as_bytes(), b"hello");
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.payload.as_bytes()
    }

    /// Returns the text if the message is text.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().as_text(), Some("hello"));
    /// ```
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.0.payload.as_text()
    }

    /// Returns whether the message is text.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("hello".into()).into_owned().is_text());
    /// ```
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.0.payload.is_text()
    }

    /// Returns the number of bytes.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().len(), 5);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.payload.len()
    }

    /// Returns whether there are no bytes, which only the last fragment of a message may have.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(!FragmentRef::whole("hello".into()).into_owned().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.payload.is_empty()
    }

    /// Returns how many bytes of the message came before this fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().offset(), 0);
    /// ```
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// Returns whether a message begins with this fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("hello".into()).into_owned().is_first());
    /// ```
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.as_ref().is_first()
    }

    /// Returns whether the message ends with this fragment. If the connection ends before, there is no last fragment.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert!(FragmentRef::whole("hello".into()).into_owned().is_last());
    /// ```
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.0.is_last
    }

    /// Returns the bytes of memory that the payload takes.
    pub(crate) fn capacity(&self) -> usize {
        match &self.0.payload {
            Message::Text(text) => text.capacity(),
            Message::Binary(bytes) => bytes.capacity(),
            _ => 0,
        }
    }

    /// Returns the bytes without copying them.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    ///
    /// assert_eq!(FragmentRef::whole("hello".into()).into_owned().into_bytes(), b"hello");
    /// ```
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.payload.into_bytes()
    }
}
