//! Every name we invent, and every path our code uses.
//!
//! Paths are absolute: they begin at `#[worker(crate = ..)]` or at `::rpc_parallel`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::Path;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

/// The crate whose `__private` our code calls.
pub(crate) struct Facade(Option<Path>);

impl Facade {
    pub(crate) fn new(path: Option<Path>) -> Facade {
        Facade(path)
    }

    /// The path of `__private`, standing at `span`.
    pub(crate) fn private(&self, span: Span) -> TokenStream {
        match &self.0 {
            Some(path) => {
                let path = moved(path, span);
                quote_spanned!(span=> #path::__private)
            }
            None => quote_spanned!(span=> ::rpc_parallel::__private),
        }
    }

    /// Where the macro was used, as a value of the runtime's `SourceLocation`.
    pub(crate) fn place(&self, span: Span) -> TokenStream {
        let p = self.private(span);
        quote_spanned! {span=>
            #p::SourceLocation {
                package: ::core::env!("CARGO_PKG_NAME"),
                version: ::core::env!("CARGO_PKG_VERSION"),
                module: ::core::module_path!(),
                file: ::core::file!(),
                line: ::core::line!(),
            }
        }
    }
}

/// The place of `tokens`, as a span for code of ours. Lints see that it is not the user's code.
pub(crate) fn at(tokens: &impl ToTokens) -> Span {
    Span::mixed_site().located_at(tokens.span())
}

/// Like [`at`], for the last of the tokens. A span of several tokens cannot be had on stable
/// Rust, but the compiler joins those of a first and a last one.
pub(crate) fn at_end_of(tokens: &impl ToTokens) -> Span {
    let last = tokens.to_token_stream().into_iter().last();
    Span::mixed_site().located_at(last.map_or_else(Span::mixed_site, |it| it.span()))
}

/// The user's tokens, but standing at `span`.
pub(crate) fn moved(tokens: &impl ToTokens, span: Span) -> TokenStream {
    let moved = |mut token: TokenTree| {
        token.set_span(token.span().located_at(span));
        token
    };
    tokens.to_token_stream().into_iter().map(moved).collect()
}

/// `BankClient`, for `Bank`.
pub(crate) fn client_type(worker_trait: &Ident) -> Ident {
    Ident::new(&format!("{}Client", worker_trait.unraw()), worker_trait.span())
}

/// `DEPOSIT`, for `deposit`.
pub(crate) fn constant(function: &Ident) -> Ident {
    Ident::new(&function.unraw().to_string().to_uppercase(), function.span())
}

/// The type that stands for one function of a client.
pub(crate) fn key(function: &Ident, span: Span) -> Ident {
    format_ident!("__{}", function.unraw(), span = span)
}

/// What dispatch calls the argument that the caller gave as its `index`th.
pub(crate) fn argument(index: usize, span: Span) -> Ident {
    Ident::new(&format!("__a{index}"), Span::mixed_site().located_at(span))
}

/// A name as a string, `loop` for `r#loop`.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// A link for documentation, if rustdoc can make one.
pub(crate) fn link(ident: &Ident, path: &str) -> String {
    let name = ident.unraw();
    if *ident == name { format!("[`{name}`]({path}{name})") } else { format!("`{name}`") }
}

/// The functions that every client has, or that its users expect to mean what they always mean.
pub(crate) const TAKEN_FUNCTIONS: &[&str] = &[
    "client",
    "clone",
    "close",
    "close_server",
    "closed",
    "fmt",
    "from_client",
    "is_closed",
    "label",
    "worker_id",
];

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn names_made_from_raw_identifiers_are_not_raw() {
        assert_eq!(constant(&syn::parse_quote!(r#loop)), "LOOP");
        assert_eq!(client_type(&syn::parse_quote!(r#Type)), "TypeClient");
        assert_eq!(key(&syn::parse_quote!(r#loop), Span::call_site()), "__loop");
    }

    #[test]
    fn the_facade_may_have_another_name() {
        let facade = Facade::new(Some(syn::parse_quote!(crate::rp)));

        let expected = quote!(crate::rp::__private).to_string();
        assert_eq!(facade.private(Span::call_site()).to_string(), expected);
    }
}
