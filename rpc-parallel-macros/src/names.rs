//! The names and paths of generated code.
//!
//! Paths are absolute: they begin with the path of `#[worker(crate = ..)]`, or with
//! `::rpc_parallel`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::Path;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

/// The crate whose `__private` module generated code uses.
#[derive(Clone)]
pub(crate) struct Facade(Option<Path>);

impl Facade {
    pub(crate) fn new(path: Option<Path>) -> Facade {
        Facade(path)
    }

    /// Returns the path of `__private`, at `span`.
    pub(crate) fn private(&self, span: Span) -> TokenStream {
        match &self.0 {
            Some(path) => {
                let path = moved(path, span);
                quote_spanned!(span=> #path::__private)
            }
            None => quote_spanned!(span=> ::rpc_parallel::__private),
        }
    }

    /// Returns an expression for the source location at which the macro is used.
    pub(crate) fn source_location(&self, span: Span) -> TokenStream {
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

/// Returns the location of `tokens` as a span for generated code. Lints skip code with such spans.
pub(crate) fn at(tokens: &impl ToTokens) -> Span {
    Span::mixed_site().located_at(tokens.span())
}

/// Like [`at`], for the last of `tokens`.
///
/// Stable Rust cannot join spans, but rustc underlines from the first to the last token of an
/// expression or type.
pub(crate) fn at_end_of(tokens: &impl ToTokens) -> Span {
    let last = tokens.to_token_stream().into_iter().last();
    Span::mixed_site().located_at(last.map_or_else(Span::mixed_site, |it| it.span()))
}

/// Returns the user's tokens, with `span` as their location.
pub(crate) fn moved(tokens: &impl ToTokens, span: Span) -> TokenStream {
    let moved = |mut token: TokenTree| {
        token.set_span(token.span().located_at(span));
        token
    };
    tokens.to_token_stream().into_iter().map(moved).collect()
}

/// Returns `BankClient` for `Bank`.
pub(crate) fn client_type(worker_trait: &Ident) -> Ident {
    Ident::new(&format!("{}Client", worker_trait.unraw()), worker_trait.span())
}

/// Returns `DEPOSIT` for `deposit`.
pub(crate) fn constant(function: &Ident) -> Ident {
    Ident::new(&function.unraw().to_string().to_uppercase(), function.span())
}

/// Returns `__deposit` for `deposit`: the type that identifies one function of a client.
pub(crate) fn key(function: &Ident, span: Span) -> Ident {
    format_ident!("__{}", function.unraw(), span = span)
}

/// Returns the variable of an argument in dispatch code. `index` counts contexts, too.
pub(crate) fn argument(index: usize, span: Span) -> Ident {
    Ident::new(&format!("__a{index}"), Span::mixed_site().located_at(span))
}

/// Returns a name as a string: `loop` for `r#loop`.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Returns a link for rustdoc, or the name alone if it is a raw identifier, which rustdoc cannot
/// link.
pub(crate) fn link(ident: &Ident, path: &str) -> String {
    let name = ident.unraw();
    if *ident == name { format!("[`{name}`]({path}{name})") } else { format!("`{name}`") }
}

/// The names that worker functions must not have.
///
/// Clients have these functions from `WorkerClient`, `Control`, `Clone` and `Debug`. A worker
/// function of the same name would hide one of them, because the functions of a client are
/// inherent. `logs` is reserved without the feature `tracing`, too, so that the feature does not
/// change which programs compile.
pub(crate) const RESERVED_FUNCTIONS: &[&str] = &[
    "client",
    "clone",
    "close",
    "close_server",
    "closed",
    "fmt",
    "from_client",
    "is_closed",
    "kill",
    "label",
    "logs",
    "shutdown",
    "stats",
    "worker_id",
];

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn raw_identifiers_make_plain_names() {
        assert_eq!(constant(&syn::parse_quote!(r#loop)), "LOOP");
        assert_eq!(client_type(&syn::parse_quote!(r#Type)), "TypeClient");
        assert_eq!(key(&syn::parse_quote!(r#loop), Span::call_site()), "__loop");
    }

    #[test]
    fn documentation_lists_reserved_names() {
        let (_, documentation) =
            include_str!("lib.rs").split_once("## Reserved names").expect("there is a section");

        for name in RESERVED_FUNCTIONS {
            assert!(documentation.contains(&format!("`{name}`")), "`{name}` is not documented");
        }
    }

    #[test]
    fn facade_path_can_be_set() {
        let facade = Facade::new(Some(syn::parse_quote!(crate::rp)));

        let expected = quote!(crate::rp::__private).to_string();
        assert_eq!(facade.private(Span::call_site()).to_string(), expected);
    }
}
