"use strict";
(function () {
  var table = document.getElementById("courses");
  if (!table) { return; }
  var body = table.tBodies[0];
  var rows = Array.prototype.slice.call(body.rows);
  var search = document.getElementById("search");
  var count = document.getElementById("count");
  var buttons = Array.prototype.slice.call(document.querySelectorAll(".tools button"));
  var state = "";
  var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });

  function filter() {
    var wanted = search.value.trim().toLowerCase();
    var shown = 0;
    rows.forEach(function (row, index) {
      var fits = (!state || row.dataset.state === state) && (!wanted || texts[index].indexOf(wanted) >= 0);
      row.classList.toggle("none", !fits);
      if (fits) { shown += 1; }
    });
    count.textContent = shown === rows.length ? rows.length + " courses" : shown + " of " + rows.length + " courses";
  }

  function value(row, column) {
    var cell = row.cells[column];
    var key = cell.dataset.key;
    return key === undefined ? cell.textContent.trim().toLowerCase() : Number(key);
  }

  function sort(head) {
    var column = head.cellIndex;
    var down = head.getAttribute("aria-sort") === "ascending";
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (one) { one.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    var order = rows.map(function (row, index) { return { row: row, key: value(row, column), index: index }; });
    order.sort(function (a, b) {
      var less = typeof a.key === "number" ? a.key - b.key : a.key.localeCompare(b.key, undefined, { numeric: true });
      return (down ? -less : less) || a.index - b.index;
    });
    var fragment = document.createDocumentFragment();
    order.forEach(function (one) { fragment.appendChild(one.row); });
    body.appendChild(fragment);
  }

  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      state = button.dataset.state;
      buttons.forEach(function (one) { one.setAttribute("aria-pressed", String(one === button)); });
      filter();
    });
  });
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head) {
    head.querySelector("button").addEventListener("click", function () { sort(head); });
  });
  search.addEventListener("input", filter);
  filter();
}());
