// The search page: Pagefind's own interface, filled with the words of the sidebar's box (?q=).
(() => {
  if (location.protocol === "file:" || typeof PagefindUI === "undefined") {
    document.getElementById("search-by-http").hidden = false;
    return;
  }
  const ui = new PagefindUI({ element: "#search", showImages: false, showSubResults: true });
  const words = new URLSearchParams(location.search).get("q");
  if (words) ui.triggerSearch(words);
})();
