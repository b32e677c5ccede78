/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The synonym table: what columns are called and how documents announce the same thing, in
 * English and some German, French, Spanish, Italian, Dutch and Portuguese.
 * Labels are compared folded (lower case, no accents, '#' and 'n°' are "nr"), so one spelling is
 * enough. CONCEPT_NONE holds labels that must not be taken for a shorter one inside them.
 */
#include "services/ai-extractor/rules_table.h"

const struct concept_words concept_table[] = {
    {CONCEPT_NUMBER, "number|document number|invoice id|receipt id|bill number",
     "invoice number|invoice no|invoice nr|invoice num|invoice id|inv no|inv nr|invoice|tax "
     "invoice no|"
     "tax invoice nr|bill no|bill nr|bill number|receipt number|receipt no|receipt nr|document "
     "number|"
     "document no|doc no|credit note number|credit note no|rechnungsnummer|rechnungs "
     "nr|rechnungsnr|rechnung nr|"
     "rechnung nummer|re nr|beleg nr|belegnummer|belegnr|gutschriftnummer|gutschrift nr|"
     "korrekturrechnung nr|numero de facture|facture nr|facture no|facture numero|n de facture|"
     "nr de facture|no de facture|n facture|nr facture|numero de factura|factura nr|factura "
     "no|factura n|"
     "n de factura|no de factura|numero factura|numero fattura|fattura nr|fattura n|fattura "
     "no|numero della fattura|"
     "numero di fattura|factuurnummer|factuur nr|factuurnr|numero da fatura|fatura nr|fatura no|n "
     "da fatura|no da fatura"},
    {CONCEPT_ISSUE_DATE, "date|issue date|document date|date of issue|receipt date",
     "invoice date|date of invoice|bill date|billing date|date of issue|issue date|issued "
     "on|issued at|"
     "issued|date|receipt date|document date|dated|rechnungsdatum|datum der rechnung|re "
     "datum|belegdatum|beleg datum|"
     "ausstellungsdatum|datum|date de facture|date de la facture|date facture|date d emission|"
     "fecha de factura|fecha factura|fecha de emision|fecha de la factura|fecha|data fattura|data "
     "della fattura|"
     "data di emissione|data|factuurdatum|factuur datum|datum factuur|data da fatura|data de "
     "emissao|data de fatura"},
    {CONCEPT_DUE_DATE, "due date|payment due|pay by",
     "due date|payment due|payment due date|date due|due on|due by|pay by|payable "
     "by|falligkeit|fallig am|"
     "falligkeitsdatum|zahlbar bis|zahlungsziel|zahlungstermin|date d echeance|echeance|date "
     "limite de paiement|"
     "fecha de vencimiento|vencimiento|data di scadenza|scadenza|data "
     "scadenza|vervaldatum|vervaldag|"
     "uiterste betaaldatum|te betalen voor|data de vencimento|vencimento|please pay by"},
    {CONCEPT_DELIVERY_DATE, "delivery date|service date|ship date",
     "delivery date|date of delivery|ship date|shipping date|date of supply|service "
     "date|lieferdatum|"
     "liefer datum|leistungsdatum|leistungs datum|liefer und leistungsdatum|date de "
     "livraison|fecha de entrega|"
     "data di consegna|leverdatum|leveringsdatum|data de entrega"},
    {CONCEPT_ORDER_NUMBER, "order|po|po number|purchase order|order id",
     "order number|order no|order nr|order|your order|your order no|your order nr|purchase order|"
     "purchase order number|purchase order no|po number|po no|po nr|po|p o "
     "number|bestellnummer|bestell nr|bestellung|"
     "bestellung nr|auftragsnummer|auftrag nr|auftrags nr|ihre bestellung|numero de "
     "commande|commande nr|"
     "commande no|n de commande|no de commande|bon de commande|numero de pedido|pedido nr|pedido "
     "no|n de pedido|no de pedido|pedido|"
     "numero ordine|ordine nr|n ordine|numero d ordine|bestelnummer|ordernummer|uw "
     "bestelling|numero do pedido|"
     "ordem de compra|orden de compra|ordine di acquisto|inkooporder"},
    {CONCEPT_CUSTOMER_NUMBER, "customer id|client number|account number|customer no",
     "customer number|customer no|customer nr|customer id|cust no|client no|client id|client "
     "number|account no|"
     "account number|kundennummer|kunden nr|kundennr|kd nr|ihre kundennummer|ihre nummer|numero "
     "client|"
     "n client|no client|code client|numero de cliente|n de cliente|no de cliente|codice "
     "cliente|numero cliente|"
     "klantnummer|klant nr|debiteurnummer|numero do cliente|id do cliente|id cliente|id "
     "client|kunden id|klant id|kundennr|"
     "id de cliente|id del cliente|identificativo cliente"},
    {CONCEPT_CONTRACT_NUMBER, "contract|agreement number",
     "contract number|contract no|contract nr|agreement number|agreement "
     "no|vertragsnummer|vertrags nr|"
     "numero de contrat|numero de contrato|numero contratto|contractnummer"},
    {CONCEPT_DELIVERY_NUMBER, "delivery note",
     "delivery note|delivery note number|delivery note no|lieferscheinnummer|lieferschein "
     "nr|lieferschein|lieferavis|"
     "bon de livraison|albaran|pakbonnummer"},
    {CONCEPT_SELLER,
     "seller|seller name|supplier|supplier name|vendor|vendor name|company|company "
     "name|merchant|merchant name|"
     "issuer|store|store name|lieferant|verkaufer|fournisseur|proveedor|fornitore|leverancier",
     "seller|supplier|vendor|sold "
     "by|from|verkaufer|lieferant|rechnungsersteller|rechnungssteller|fournisseur|"
     "vendeur|emetteur|proveedor|vendedor|fornitore|cedente|leverancier|verkoper|fornecedor"},
    {CONCEPT_BUYER,
     "buyer|buyer name|customer|customer name|client|client name|bill "
     "to|recipient|kunde|kaufer|cliente",
     "buyer|bill to|billed to|invoice to|sold to|customer|client|kaufer|kaufer "
     "leistungsempfanger|kunde|rechnungsempfanger|"
     "rechnungsadresse|rechnung an|acheteur|facture a|adresse de facturation|client "
     "facture|destinataire|cliente|"
     "facturar a|cobrar a|fatturare a|intestatario|cessionario|destinatario|klant|koper|factuur "
     "aan|factuuradres|"
     "faturar a|cobrar de|comprador|customer name|nombre del cliente|nome cliente|kundenname|nom "
     "du client|klantnaam|"
     "nome do cliente"},
    {CONCEPT_VAT_ID,
     "vat id|vat|vat number|seller vat id|supplier vat id|vat no|tax id|seller vat number|seller "
     "tax id",
     "vat id|vat number|vat no|vat reg no|vat registration number|vat registration no|vat nr|ust "
     "id|ust id nr|ust idnr|"
     "ust identnr|ust ident nr|umsatzsteuer id|umsatzsteuer identifikationsnummer|uid|uid nr|n "
     "tva|nr tva|no tva|"
     "tva intracommunautaire|n de tva|numero de tva|tva|cif|nif|nif iva|partita iva|p iva|btw "
     "nummer|btw nr|btw id|"
     "btw|contribuinte|vat|tax id"},
    {CONCEPT_TAX_NUMBER, "tax number|gst id|gst number|gst no",
     "tax number|steuernummer|steuer nr|st nr|gst id|gst no|gst nr|gst reg no|gst reg nr|gst "
     "registration no"},
    {CONCEPT_IBAN, "iban|iban number|bank account", "iban|iban nr|iban no|iban code"},
    {CONCEPT_BIC, "bic|swift|bic code|swift code",
     "bic|bic swift|swift|swift code|bic code|swift bic"},
    {CONCEPT_EMAIL, "email|e mail|email address|mail",
     "email|e mail|mail|courriel|correo|correo electronico"},
    {CONCEPT_PHONE, "phone|telephone|phone number|tel",
     "phone|telephone|tel|tel no|tel nr|telefon|tel fax|telefono|telefoon|telefone|fon"},
    {CONCEPT_CURRENCY, "currency|currency code|wahrung|devise|moneda|valuta",
     "currency|wahrung|rechnungswahrung|devise|moneda|divisa|valuta|moeda"},
    {CONCEPT_NET_TOTAL,
     "net|net total|subtotal|sub total|net amount|total net|amount net|total excl tax|net sum",
     "net total|total net|subtotal|sub total|net amount|amount net|total excl vat|total excluding "
     "vat|"
     "total excl tax|total excluding tax|total before tax|taxable amount|total excluding gst|total "
     "excludinggst|"
     "total sales excluding gst|total sales excludinggst|total excl gst|summe "
     "netto|nettosumme|netto summe|nettobetrag|"
     "gesamt netto|netto gesamt|gesamtbetrag netto|rechnungssumme netto|rechnungssumme netto exkl "
     "ust|"
     "rechnungssumme ohne ust|rechnungsbetrag netto|gesamtnetto|netto|zwischensumme|total ht|total "
     "h t|montant ht|sous total|"
     "montant total ht|net ht|base imponible|subtotal|total sin iva|importe neto|imponibile|totale "
     "imponibile|"
     "totale netto|subtotale|totaal excl btw|totaal exclusief btw|subtotaal|total sem iva|total "
     "liquido"},
    {CONCEPT_TAX_TOTAL,
     "tax|tax total|total tax|vat total|tax amount|vat amount|total vat|gst|gst amount|total "
     "gst|mwst|tva|sales tax",
     "tax|tax total|total tax|tax amount|vat total|total vat|vat amount|sales tax|total taxes|plus "
     "vat|gst|total gst|gst amount|"
     "steuerbetrag|summe umsatzsteuer|summe ust|summe mwst|mwst betrag|ust betrag|umsatzsteuer "
     "gesamt|"
     "gesamt umsatzsteuer|umsatzsteuer|mwst|ust|zzgl mwst|zzgl ust|zzgl umsatzsteuer|zuzugl "
     "ust|zuzugl mwst|"
     "mehrwertsteuer|zuzuglich mwst|zuzuglich ust|total tva|montant tva|tva|total des taxes|total "
     "taxe|total iva|iva|"
     "importe iva|cuota iva|impuesto|impuestos|imposta|totale iva|totale imposta|importo "
     "iva|btw|btw bedrag|"
     "totaal btw|imposto|total de impostos|vat"},
    {CONCEPT_TAX_RATE, "tax rate|vat rate|gst rate",
     "tax rate|vat rate|steuersatz|mwst satz|ust satz|taux tva|taux de tva|tipo "
     "iva|aliquota|aliquota iva|btw tarief"},
    {CONCEPT_TOTAL,
     "total|grand total|total amount|amount|invoice total|gross total|total gross|gross "
     "amount|total sum|"
     "total incl tax|order total",
     "grand total|total|total amount|invoice total|gross total|total gross|gross amount|total incl "
     "vat|"
     "total including vat|total incl tax|total including tax|total inclusive of gst|total "
     "inclusive gst|"
     "total sales inclusive of gst|total sales inclusive gst|total incl gst|gst incl|total "
     "rounded|total after rounding|"
     "nett total|net total incl gst|order total|total invoice amount|invoice "
     "amount|summe|gesamt|gesamtsumme|gesamtbetrag|"
     "gesamtbetrag brutto|brutto gesamt|gesamt brutto|summe brutto|summe inkl ust|summe inkl "
     "mwst|bruttosumme|bruttobetrag|"
     "rechnungsbetrag|rechnungssumme|rechnungssumme brutto|rechnungssumme brutto inkl "
     "ust|rechnungsbetrag brutto|"
     "endbetrag|gesamtpreis|rechnungsendbetrag|total ttc|montant ttc|montant total ttc|total "
     "general|montant total|total t t c|"
     "importe total|total factura|total con iva|total a pagar|totale|totale fattura|totale "
     "complessivo|totale ivato|"
     "totaal|totaal incl btw|totaal inclusief btw|totaalbedrag|total com iva|total geral|valor "
     "total"},
    {CONCEPT_DUE_AMOUNT,
     "due|amount due|due payable|balance|balance due|total due|payable|amount payable|due amount",
     "amount due|total due|balance due|balance|due payable|amount payable|total payable|total "
     "amount payable|"
     "total amount due|amount to pay|please pay|zahlbetrag|zu zahlen|zu zahlender "
     "betrag|zahlungsbetrag|offener betrag|"
     "falliger betrag|restbetrag|zahllast|noch zu zahlen|uberweisungsbetrag|solde a payer|net a "
     "payer|reste a payer|montant du|a payer|"
     "importe a pagar|saldo|saldo pendiente|importe adeudado|importe vencido|totale da "
     "pagare|importo dovuto|da pagare|"
     "netto a pagare|te betalen|openstaand bedrag|openstaand saldo|te betalen bedrag|valor a "
     "pagar|saldo devedor|"
     "betrag fallig|falliger gesamtbetrag|verschuldigd bedrag|verschuldigd|valor em divida"},
    {CONCEPT_PAID_AMOUNT, "paid|amount paid|prepaid|cash",
     "paid|amount paid|prepaid|deposit|already paid|bereits bezahlt|erhaltene "
     "anzahlungen|anzahlung|acompte|"
     "deja paye|anticipo|pagado|pagato|acconto|betaald|aanbetaling|cash|cash "
     "tendered|visa|mastercard|card"},
    {CONCEPT_DISCOUNT, "discount|total discount|rebate",
     "discount|total discount|less discount|rabatt|sondernachlass|abzgl "
     "sondernachlass|nachlass|skonto|gesamtbetrag der abschlage|"
     "remise|remise totale|descuento|sconto|korting|desconto"},
    {CONCEPT_SHIPPING, "shipping|freight|delivery cost",
     "shipping|freight|shipping and handling|delivery charge|versandkosten|zzgl "
     "versandkosten|fracht|porto|"
     "gesamtbetrag der zuschlage|frais de port|gastos de envio|spese di spedizione|verzendkosten"},
    {CONCEPT_CHANGE, "change",
     "change|change due|rounding|rounding adjustment|rounding adj|round adj|ruckgeld|rendu monnaie|"
     "cambio|wisselgeld"},
    {CONCEPT_ADDRESS, "address|seller address|buyer address",
     "address|anschrift|adresse|direccion|indirizzo|adres|endereco|billing address|adresse de "
     "livraison|ship to|"
     "shipping address|lieferadresse|lieferanschrift|service address|enviar a|spedire a|verzenden "
     "naar|livrer a"},
    {CONCEPT_TIME, "time", "time|zeit|uhrzeit|heure|hora|ora|tijd"},
    {CONCEPT_TERMS, "terms|payment terms|terms of payment",
     "terms|payment terms|terms of payment|zahlungsbedingungen|conditions de paiement|condiciones "
     "de pago|"
     "condizioni di pagamento|termini di pagamento|betalingsvoorwaarden|betaaltermijn"},
    {CONCEPT_POSITION, "pos|position|line|no|line number",
     "pos|position|line|ligne|riga|regel|item nr"},
    {CONCEPT_DESCRIPTION,
     "description|item|product|article|name|item description|product name|text|service",
     "description|item description|item|items|product|article|details|service|item "
     "desc|particulars|beschreibung|bezeichnung|"
     "artikelbezeichnung|artikelbeschreibung|artikel|produkt|leistung|designation|libelle|produit|"
     "prestation|"
     "descripcion|concepto|articulo|producto|descrizione|prodotto|articolo|omschrijving|descricao|"
     "produto"},
    {CONCEPT_QUANTITY, "quantity|qty|count|units",
     "quantity|qty|menge|anzahl|stuck|quantite|qte|cantidad|cant|quantita|qta|aantal|quantidade|"
     "qtd|hours"},
    {CONCEPT_UNIT, "unit|uom", "unit|uom|einheit|unite|unidad|unita|eenheid|mengeneinheit"},
    {CONCEPT_UNIT_PRICE, "unit price|price|rate|price per unit|net price",
     "unit price|price|rate|u price|price per unit|unit "
     "cost|einzelpreis|preis|nettopreis|stuckpreis|e preis|prix unitaire|"
     "prix|pu ht|p u|precio unitario|precio|prezzo "
     "unitario|prezzo|stukprijs|eenheidsprijs|prijs|preco unitario|preco"},
    {CONCEPT_LINE_TOTAL, "line total|amount|total|net amount|line amount|total price|sum",
     "line total|amount|total price|total|ext price|extended price|net amount|line "
     "amount|betrag|gesamtpreis|gesamt|summe|nettobetrag|"
     "nettowert|positionsbetrag|positionsbetrag ohne ust|entgelt|gesamtbetrag|montant|montant "
     "ht|prix "
     "ht|total ht|importe|importo|totale|bedrag|totaal|valor|"
     "prix total|precio total|amount excl vat|s price"},
    {CONCEPT_ITEM_NUMBER, "sku|item number|article number|code|item code|product code|item no",
     "sku|item no|item number|item code|product code|art nr|artnr|artikelnummer|artikel nr|article "
     "no|reference|ref|code|"
     "codigo|codice|artikelnr"},
    {CONCEPT_LINES_SUM, "",
     "positionssumme|summe der positionen|sum of line items|total lines|lines total|items "
     "total|total des lignes|"
     "ubertrag|carried forward|a reporter"},
    {CONCEPT_NONE, "",
     "total quantity|total qty|tot qty|total items|total number|total hours|item total|total "
     "savings|total sales tax|"
     "customer vat id|customer vat no|your vat id|your vat no|ihre ust id|ihre ust identnr|ihre "
     "ust idnr|ihre ust id nr|"
     "n tva client|nr tva client|no tva client|zahlungsdatum|payment date|order "
     "date|bestelldatum|auftragsdatum|auftrag datum|"
     "vertragsdatum|vertrags datum|lieferscheindatum|lieferschein datum|date de commande|fecha de "
     "pedido|data ordine|"
     "print date|date of birth|start date|end date|valid from|valid until|tax summary|gst "
     "summary|total paid|"
     "handelsregisternummer|registration number|company reg|company reg no|reg "
     "no|page|seite|fax|rechnungskorrektur|"
     "lieferanschrift|warenempfanger|balance forward|previous balance|previous unpaid "
     "balance|opening balance|saldo anterior|"
     "bank account number|kontonummer|kontonr|konto nr|blz|globale "
     "nummer|gln|positionssumme|basisbetrag|zwischensumme ubertrag|amount saved|"
     "steuerbasisbetrag|warenwert|tax code|steuersatz|date time|stadt|vat rate|purchase order "
     "date|discount amount|amount in words|"
     "tax base|taxable base|net amount vat|total discount amount|summe rabatt|sum of line "
     "items|beleg datum korrektur"},
};

const size_t concept_table_n = sizeof(concept_table) / sizeof(concept_table[0]);
