// The talk with the server. What names a cell names its grid, since cells have numbers in a grid only.

export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  // Whether the server does not know the grid any more that was named.
  get isStale() {
    return this.status === 409;
  }
}

function address(path) {
  const url = new URL(path, location.href);
  const token = new URLSearchParams(location.search).get("token");
  if (token !== null) url.searchParams.set("token", token);
  return url.href;
}

// The answer to a question; body is posted as JSON. Throws Refusal, and TypeError where the server does not answer.
export async function ask(path, body) {
  const options = body && {
    method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" },
  };
  const answer = await fetch(address(path), options);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refusal(told.detail ?? `The server answered ${answer.status}.`, answer.status);
}

export const askGrid = async () => (await ask("api/grid")).json();

export const askClip = async (grid, number) => (await ask(`api/clips/${number}?grid=${grid}`)).arrayBuffer();

// Gives a file of the favourites to the browser.
export async function save(form, name) {
  const content = await (await ask(`api/export?as=${form}`)).blob();
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
