(() => {
  const blocks = [...document.querySelectorAll("details.code")];
  const fold = document.getElementById("fold");
  const say = () => {
    if (!fold) return;
    const open = blocks.length > 0 && blocks.every((block) => block.open);
    fold.setAttribute("aria-pressed", String(open));
    fold.textContent = open ? "Hide code" : "Show code";
  };
  if (fold) {
    fold.hidden = blocks.length === 0;
    fold.addEventListener("click", () => {
      const open = !blocks.every((block) => block.open);
      blocks.forEach((block) => { block.open = open; });
      say();
    });
    blocks.forEach((block) => block.addEventListener("toggle", say));
  }
  const toc = document.querySelector(".toc details");
  if (toc && !matchMedia("(min-width: 68rem)").matches) toc.open = false;
  const links = new Map([...document.querySelectorAll(".toc a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const above = headings.filter((heading) => heading.getBoundingClientRect().top < 140);
    const here = (above.length ? above[above.length - 1] : headings[0] || {}).id;
    links.forEach((link, id) => link.classList.toggle("here", id === here));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
})();
