//! Answers that come page by page.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};

use crate::Error;

/// Pages of an answer, each asked for when it is wanted.
pub struct Pages<T> {
    pages: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
}

/// A method that answers page by page.
macro_rules! paged {
    ($(#[$documentation:meta])* $name:ident($request:ident) -> $response:ident) => {
        $(#[$documentation])*
        ///
        /// Each page is asked for under the deadline, and again as the retry policy says.
        #[must_use]
        pub fn $name(&self, request: $request) -> $crate::Pages<$response> {
            let this = self.clone();
            let first_token = request.page_token.clone();
            $crate::Pages::new(first_token, move |page_token| {
                let (this, request) = (this.clone(), $request { page_token, ..request.clone() });
                async move {
                    let page = this
                        .client
                        .unary($crate::client::Repeat::Idempotent, request, |request| {
                            let mut inner = this.inner.clone();
                            async move { inner.$name(request).await }
                        })
                        .await?;
                    let next_page_token = page.next_page_token.clone();
                    Ok((page, next_page_token))
                }
            })
        }
    };
}

pub(crate) use paged;

/// What to ask for next.
enum Next {
    Page(String),
    End,
}

// === impl Pages ===

impl<T: Send + 'static> Pages<T> {
    /// `ask` asks for the page of a token, and says with which token the next one comes.
    pub(crate) fn new<F>(first_token: String, ask: impl Fn(String) -> F + Send + 'static) -> Pages<T>
    where
        F: Future<Output = Result<(T, String), Error>> + Send + 'static,
    {
        let pages = stream::unfold((Next::Page(first_token), ask), |(next, ask)| async move {
            let Next::Page(token) = next else { return None };
            match ask(token).await {
                Ok((page, token)) if token.is_empty() => Some((Ok(page), (Next::End, ask))),
                Ok((page, token)) => Some((Ok(page), (Next::Page(token), ask))),
                Err(error) => Some((Err(error), (Next::End, ask))),
            }
        });
        Pages { pages: Box::pin(pages) }
    }
}

impl<T> Pages<T> {
    /// The next page; `None` after the last one, or after an error.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused or the deadline of a page passes, [`Error::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        self.pages.next().await.transpose()
    }
}

impl<T> Stream for Pages<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        self.get_mut().pages.as_mut().poll_next(context)
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::CallError;

    fn pages(fails_at: Option<&'static str>) -> Pages<String> {
        Pages::new(String::new(), move |token| async move {
            if fails_at == Some(token.as_str()) {
                return Err(Error::Call(Box::new(CallError::new(Code::NotFound, "gone"))));
            }
            let next = match token.as_str() {
                "" => "2",
                "2" => "3",
                _ => "",
            };
            Ok((format!("page {token}"), next.to_owned()))
        })
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_last() {
        let mut pages = pages(None);
        let mut seen = Vec::new();
        while let Some(page) = pages.next().await.expect("a page") {
            seen.push(page);
        }
        assert_eq!(seen, ["page ", "page 2", "page 3"]);
    }

    #[tokio::test]
    async fn an_error_is_the_last_thing() {
        let mut pages = pages(Some("2"));
        assert!(pages.next().await.expect("a page").is_some());
        assert_eq!(pages.next().await.expect_err("refused").code(), Some(Code::NotFound));
        assert!(pages.next().await.expect("the end").is_none());
    }
}
