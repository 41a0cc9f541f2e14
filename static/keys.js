"use strict";
// Security keys and passkeys: a form with data-key asks the browser for a key when it is sent, and posts the answer.
(() => {
  const toBytes = (text) => Uint8Array.from(
    atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const toText = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const withBytes = (list) => (list ?? []).map((item) => ({ ...item, id: toBytes(item.id) }));

  const create = async (options) => {
    const key = await navigator.credentials.create({ publicKey: {
      ...options,
      challenge: toBytes(options.challenge),
      user: { ...options.user, id: toBytes(options.user.id) },
      excludeCredentials: withBytes(options.excludeCredentials),
    } });
    return answer(key, {
      attestationObject: toText(key.response.attestationObject),
      transports: key.response.getTransports?.() ?? [],
    });
  };
  const get = async (options) => {
    const key = await navigator.credentials.get({ publicKey: {
      ...options,
      challenge: toBytes(options.challenge),
      allowCredentials: withBytes(options.allowCredentials),
    } });
    const { authenticatorData, signature, userHandle } = key.response;
    return answer(key, {
      authenticatorData: toText(authenticatorData),
      signature: toText(signature),
      userHandle: userHandle ? toText(userHandle) : null,
    });
  };
  const answer = (key, response) => ({
    id: key.id,
    rawId: toText(key.rawId),
    type: key.type,
    clientExtensionResults: key.getClientExtensionResults(),
    response: { clientDataJSON: toText(key.response.clientDataJSON), ...response },
  });

  for (const form of document.querySelectorAll("form[data-key]")) {
    if (window.PublicKeyCredential) form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const problem = form.querySelector("[data-key-problem]");
      problem.hidden = true;
      try {
        const { ask, options, key } = form.dataset;
        const asked = ask ? await (await fetch(ask)).json() : JSON.parse(options);
        form.elements.credential.value = JSON.stringify(await { create, get }[key](asked));
        form.submit();
      } catch {
        problem.hidden = false;
      }
    });
  }
})();
