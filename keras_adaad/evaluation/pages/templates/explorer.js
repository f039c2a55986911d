"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  if (!find("examples")) return;
  const examples = JSON.parse(find("examples").textContent);
  const slider = find("size");
  const radios = [...document.querySelectorAll("input[name=example]")];
  const svg = document.querySelector("svg").namespaceURI;
  let example;

  const make = (name, attributes, children = []) => {
    const element = ["svg", "rect"].includes(name)
      ? document.createElementNS(svg, name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };

  const row = (name, marks, percent, kind) =>
    make("tr", {}, [
      make("th", { scope: "row" }, [
        name,
        ...marks.flatMap((mark) => [
          " ",
          make("span", { class: "mark-text" }, [mark]),
        ]),
      ]),
      make("td", {}, [
        make("svg", { class: "bar", "aria-hidden": "true" }, [
          make("rect", { class: "track", width: "100%", height: "100%" }),
          make("rect", { class: kind, width: `${percent}%`, height: "100%" }),
        ]),
      ]),
      make("td", {}, [percent.toFixed(1)]),
    ]);

  const points = (place) =>
    example.confidences
      .map((values, i) => `${100 * example.shares[i]},${100 - values[place]}`)
      .join(" ");

  const showPoint = () => {
    const i = Number(slider.value);
    const { shares, sizes, classes, label, model } = example;
    const confidences = example.confidences[i];
    const [predicted, place] = [example.predicted[i], example.places[i]];
    find("adversarial").style.opacity = shares[i];
    find("perturbation").style.opacity = shares[i];
    find("adversarial-caption").textContent = `perturbed by ${sizes[i]}`;
    find("size-value").textContent = sizes[i];
    slider.setAttribute("aria-valuetext", `size ${sizes[i]}`);

    const rows = classes.map((name, k) => {
      const marks = [];
      if (k === 0) marks.push("true");
      if (k === place) marks.push("predicted");
      const kind = k === 0 ? "kept" : k === place ? "wrong" : "clean";
      return row(name, marks, confidences[k], kind);
    });
    if (example.more) {
      const rest = 100 - confidences.reduce((a, b) => a + b, 0);
      rows.push(row("all others", [], Math.max(0, rest), "clean"));
    }
    find("confidences").replaceChildren(...rows);

    const percent = (k) => `${confidences[k].toFixed(1)}\u00a0%`;
    const right = place === 0;
    const says = right
      ? `${label}, which is right (${percent(0)}).`
      : `${predicted}${place < 0 ? "" : ` (${percent(place)})`}. ` +
        `The true class ${label} has ${percent(0)}.`;
    find("verdict").textContent = `${model} answers ${says}`;
    find("verdict").className = right ? "verdict" : "verdict wrong-answer";
    for (const end of ["x1", "x2"]) {
      find("path-cursor").setAttribute(end, 100 * shares[i]);
    }
  };

  const showExample = () => {
    const radio = radios.find((one) => one.checked) ?? radios[0];
    const clean = radio.nextElementSibling.src;
    example = examples[radio.value];
    const { adversarial, perturbation, label, model, predicted, places } = example;
    for (const image of document.querySelectorAll("#viewer img.clean")) {
      image.src = clean;
    }
    find("adversarial").src = adversarial;
    find("perturbation").src = perturbation;
    document.querySelector("#viewer img.clean").alt =
      `clean image ${example.index}, of class ${label}`;
    find("adversarial").alt = "the same image with the perturbation";
    find("perturbation").alt = `the perturbation, magnified ${example.factor} times`;
    find("perturbation-caption").textContent =
      `perturbation ×${example.factor}`;
    const verdicts = [`${model} ${example.verdict}`, ...example.others];
    find("story").textContent =
      `Image ${example.index}: ${verdicts.join("; ")}.`;
    slider.max = example.shares.length - 1;
    slider.value = slider.max;
    const other = places.at(-1);
    find("path-true").setAttribute("points", points(0));
    find("path-other").setAttribute("points", other > 0 ? points(other) : "");
    find("path-caption").textContent =
      `confidence from the clean image (left) to the adversarial: ${label} solid` +
      (other > 0 ? `, ${predicted.at(-1)} dashed` : "");
    showPoint();
  };

  slider.addEventListener("input", showPoint);
  for (const radio of radios) radio.addEventListener("change", showExample);
  find("no-script").hidden = true;
  find("viewer").hidden = false;
  showExample();
})();
