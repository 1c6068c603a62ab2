// The line that says that checkpoints came or went while the page is open. It changes nothing by itself: the grid moves
// when its button is pressed.

const element = (name) => document.getElementById(name);
const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
let closed = ""; // what the listener has read and closed

// What the line says, and its button, for the news as the server tells them; stale: the page's grid is not known there
// any more.
function words({ new: fresh, gone, problem, stale }) {
  if (stale) return ["The checkpoints have changed.", "Show them"];
  const parts = [];
  if (fresh) parts.push(`${counted(fresh, "new checkpoint")}${gone ? `, ${gone} gone` : ""}.`);
  else if (gone) parts.push(`${counted(gone, "checkpoint")} gone.`);
  if (problem) parts.push(`New checkpoints cannot be shown: ${problem}.`);
  const button = fresh ? `Show ${fresh === 1 ? "it" : "them"}` : gone ? "Update" : problem ? "Close" : "";
  return [parts.join(" "), button];
}

function write(text, button) {
  // A screen reader tells what changes, so nothing is written twice.
  if (element("news-text").textContent !== text) element("news-text").textContent = text;
  if (element("news-show").textContent !== button) element("news-show").textContent = button;
  element("news-show").hidden = !button;
  element("news").classList.toggle("told", Boolean(text));
}

export function showNews(news) {
  const [text, button] = words(news);
  if (text === closed) write("", "");
  else write(text, button);
}

export const clearNews = () => write("", "");

// show: called where the listener wants to see what is new; done: where there is nothing but words, which were read.
export function whenPressed({ show, done }) {
  element("news-show").addEventListener("click", ({ target }) => {
    if (target.textContent !== "Close") {
      show();
      return;
    }
    closed = element("news-text").textContent;
    done(); // takes the focus before its place goes
    clearNews();
  });
}
